//! Tests of the generated code and of the error messages.

use super::*;

#[expect(clippy::needless_pass_by_value, reason = "it is called with `quote!`")]
fn get(arguments: TokenStream, item: TokenStream) -> String {
    expand(Some("Get"), arguments, &item).to_string()
}

#[test]
fn a_handler_is_added_to_the_unchanged_function() {
    let item = quote! { pub async fn list() -> String { made() } };
    let text = get(quote!("/"), item.clone());
    assert!(text.starts_with(&item.to_string()), "{text}");
    assert!(text.contains("pub struct list { }"), "{text}");
    assert!(
        text.contains(":: slackwater :: Handler < AnyState > for list"),
        "{text}"
    );
}

#[test]
fn the_state_comes_from_an_argument_or_from_the_attribute() {
    for (arguments, item, state) in [
        (
            quote!("/"),
            quote! { async fn f(State(s): State<Shop>) {} },
            "Handler < Shop >",
        ),
        (
            quote!("/"),
            quote! { async fn f(r: slackwater::Request<Shop>) {} },
            "Handler < Shop >",
        ),
        (
            quote!("/"),
            quote! { async fn f(r: Request) {} },
            "Handler < < Request as :: slackwater :: __private :: HasState > :: State >",
        ),
        (
            quote!("/", state = Shop),
            quote! { async fn f(user: User) {} },
            "Handler < Shop >",
        ),
        (
            quote!("/"),
            quote! { async fn f<S: Store>(s: State<S>) {} },
            "impl < S : Store > :: slackwater :: Handler < S > for f",
        ),
        (
            quote!("/", crate = "sw"),
            quote! { async fn f() {} },
            "sw :: Handler < AnyState >",
        ),
    ] {
        let text = get(arguments, item);
        assert!(text.contains(state), "{state}: {text}");
    }
}

#[test]
fn an_argument_named_like_a_segment_receives_the_segment() {
    let text = get(
        quote!("/a/:id/*rest"),
        quote! { async fn f(id: u64, rest: String, other: Query<X>) {} },
    );
    assert!(
        text.contains("argument :: < _ , u64 > (& request , \"id\")"),
        "{text}"
    );
    assert!(
        text.contains("argument :: < _ , String > (& request , \"rest\")"),
        "{text}"
    );
    assert!(text.contains("< Query < X > as"), "{text}");
}

#[test]
fn the_error_for_an_invalid_route_states_the_fix() {
    let f = quote! { async fn f() {} };
    for (arguments, item, message) in [
        (quote!("users"), f.clone(), "write \\\"/users\\\""),
        (quote!("/users/{id}"), f.clone(), "write \\\"/users/:id\\\""),
        (
            quote!("/users/<id..>"),
            f.clone(),
            "write \\\"/users/:id\\\"",
        ),
        (quote!("/a?x=1"), f.clone(), "`Query<T>`"),
        (
            quote!("/a//b"),
            f.clone(),
            "cannot contain an empty segment",
        ),
        (quote!("/ä"), f.clone(), "percent-encode other characters"),
        (quote!("/:a/:a"), f.clone(), "two segments are called `a`"),
        (quote!("/*a/b"), f.clone(), "nothing can follow it"),
        (quote!("/:"), f.clone(), "has no name"),
        (
            quote!("/:a-b"),
            f.clone(),
            "cannot be the name of an argument",
        ),
        (quote!("/a:b"), f.clone(), "mixes text and an argument"),
        (
            quote!("/:id"),
            f.clone(),
            "the segment `:id` has no argument: add `id: String`",
        ),
        (
            quote!(),
            f.clone(),
            "the path is missing: write #[get(\\\"/path\\\")]",
        ),
        (
            quote!("/", x = 1),
            f.clone(),
            "the options after the path are",
        ),
        (quote!("/"), quote! { fn f() {} }, "write `async fn` here"),
        (
            quote!("/"),
            quote! { async fn f(&self) {} },
            "remove `self`",
        ),
        (
            quote!("/"),
            quote! { async fn f(text: &str) {} },
            "write `String`",
        ),
        (
            quote!("/"),
            quote! { async fn f(r: Request<()>, b: String) {} },
            "must be the last argument",
        ),
        (
            quote!("/"),
            quote! { async fn f<T>(t: T) {} },
            "must take its state as an argument",
        ),
        (quote!("/"), quote! { struct F; }, "on an `async fn`"),
    ] {
        let text = get(arguments, item);
        assert!(text.contains(message), "{message}: {text}");
    }
    for (arguments, message) in [
        (quote!(get, "/"), "in capital letters: GET"),
        (quote!(FETCH, "/"), "the method `FETCH` is not known"),
        (quote!(GET, GET, "/"), "listed twice"),
        (quote!("/"), "the methods are missing"),
        (quote!(GET), "write methods, then the path"),
    ] {
        let text = expand(None, arguments, &f).to_string();
        assert!(text.contains(message), "{message}: {text}");
    }
}

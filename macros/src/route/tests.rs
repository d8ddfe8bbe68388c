//! What the attributes make of functions, and what they say of those that are none.

use super::*;

fn get(arguments: TokenStream, item: TokenStream) -> String {
    expand(Some("Get"), arguments, item).to_string()
}

#[test]
fn a_function_is_left_as_it_is_and_gets_a_handler() {
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
fn the_state_is_that_of_an_argument_or_of_the_attribute() {
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
            "Handler < < Request as :: slackwater :: __private :: OfState > :: State >",
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
fn an_argument_named_like_a_segment_is_that_segment() {
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
fn what_is_no_route_is_told_what_to_write() {
    let f = quote! { async fn f() {} };
    for (arguments, item, told) in [
        (quote!("users"), f.clone(), "write \\\"/users\\\""),
        (quote!("/users/{id}"), f.clone(), "write \\\"/users/:id\\\""),
        (
            quote!("/users/<id..>"),
            f.clone(),
            "write \\\"/users/:id\\\"",
        ),
        (quote!("/a?x=1"), f.clone(), "`Query<T>`"),
        (quote!("/a//b"), f.clone(), "no empty segment"),
        (quote!("/ä"), f.clone(), "percent-encoded"),
        (quote!("/:a/:a"), f.clone(), "two segments are called `a`"),
        (quote!("/*a/b"), f.clone(), "nothing can follow it"),
        (quote!("/:"), f.clone(), "has no name"),
        (
            quote!("/:a-b"),
            f.clone(),
            "cannot be the name of an argument",
        ),
        (quote!("/a:b"), f.clone(), "plain text"),
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
            "take no `self`",
        ),
        (
            quote!("/"),
            quote! { async fn f(text: &str) {} },
            "write `String`",
        ),
        (
            quote!("/"),
            quote! { async fn f(r: Request<()>, b: String) {} },
            "only be the last argument",
        ),
        (
            quote!("/"),
            quote! { async fn f<T>(t: T) {} },
            "takes its state as an argument",
        ),
        (quote!("/"), quote! { struct F; }, "stands on an `async fn`"),
    ] {
        let text = get(arguments, item);
        assert!(text.contains(told), "{told}: {text}");
    }
    for (arguments, told) in [
        (quote!(get, "/"), "in capitals: GET"),
        (quote!(FETCH, "/"), "the method `FETCH` is not known"),
        (quote!(GET, GET, "/"), "named twice"),
        (quote!("/"), "the methods are missing"),
        (quote!(GET), "write methods, then the path"),
    ] {
        let text = expand(None, arguments, f.clone()).to_string();
        assert!(text.contains(told), "{told}: {text}");
    }
}

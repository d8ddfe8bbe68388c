//! What the application is given beside its settings: why it is built, and what the generation before it can leave to it.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use crate::sync::lock::Mutex;
use crate::sync::token::Token;

/// What `app` can ask while it is built.
///
/// ```
/// use slackwater::prelude::*;
///
/// # #[derive(Clone)] struct Db;
/// # impl Db { async fn connect(url: String) -> slackwater::Result<Db> { Ok(Db) } }
/// #[derive(serde::Deserialize)]
/// struct Settings { database: String }
///
/// async fn app(settings: Settings, setup: Setup) -> slackwater::Result<App<Db>> {
///     // survives a reload that does not change `database`
///     let db = setup.reuse("db", settings.database, |url| Db::connect(url)).await?;
///     Ok(App::with_state(db))
/// }
/// ```
#[derive(Clone)]
pub struct Setup(Arc<Inner>);

struct Inner {
    reason: Reason,
    generation: u64,
    draining: Token,
    previous: Kept,
    current: Mutex<HashMap<Key, Arc<Slot>>>,
}

/// Why an application is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// The process starts.
    Start,
    /// The configuration is loaded again.
    Reload,
    /// The process takes over from a running one.
    Upgrade,
    /// `APP check` wants to know whether it could start. Nothing will be served: change nothing.
    Check,
    /// A test.
    Test,
}

/// A name with the types that go with it: the same name with other types is another value.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    name: String,
    input: TypeId,
    value: TypeId,
}

/// A value in the making, or made. The lock is held while it is made: who asks for the same one meanwhile waits.
type Slot = async_std::sync::Mutex<Option<Entry>>;

/// A value and what it was made from; both have the types of their key.
#[derive(Clone)]
struct Entry {
    input: Arc<dyn Any + Send + Sync>,
    value: Arc<dyn Any + Send + Sync>,
}

/// The values of a generation, for the one that replaces it.
#[derive(Clone, Default)]
pub(crate) struct Kept(Arc<HashMap<Key, Entry>>);

impl Setup {
    pub(crate) fn new(
        reason: Reason,
        generation: u64,
        draining: Token,
        previous: Option<&Kept>,
    ) -> Self {
        let previous = previous.cloned().unwrap_or_default();
        Setup(Arc::new(Inner {
            reason,
            generation,
            draining,
            previous,
            current: Mutex::default(),
        }))
    }

    /// The value that the replaced generation has under `key`, if it was made from an equal `input`; else
    /// `make(input)`. The types belong to the key, so a value is only found again as what it was.
    ///
    /// A generation keeps the values that its own `app` asked for: what is not asked for again goes with the last
    /// generation that had it. Asked twice within one `app`, and at the same time, it is made once. `make` must not
    /// ask for the key that it makes.
    ///
    /// # Errors
    /// What `make` fails with. Nothing is kept then.
    ///
    /// ```
    /// # async fn app(setup: slackwater::Setup) -> slackwater::Result<()> {
    /// let words: std::sync::Arc<str> = setup
    ///     .reuse("words", "words.txt".to_owned(), |path| async { std::fs::read_to_string(path).map(Into::into) })
    ///     .await?;
    /// # Ok(()) }
    /// ```
    pub async fn reuse<I, T, E, F, Fut>(
        &self,
        key: impl Into<String>,
        input: I,
        make: F,
    ) -> Result<T, E>
    where
        I: PartialEq + Clone + Send + Sync + 'static,
        T: Clone + Send + Sync + 'static,
        F: FnOnce(I) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let key = Key {
            name: key.into(),
            input: TypeId::of::<I>(),
            value: TypeId::of::<T>(),
        };
        let slot = self.slot(&key);
        let mut slot = slot.lock().await;
        let known = slot.as_ref().or_else(|| self.0.previous.0.get(&key));
        if let Some((entry, value)) =
            known.and_then(|entry| Some((entry.clone(), entry.get(&input)?)))
        {
            *slot = Some(entry);
            return Ok(value);
        }
        let value = make(input.clone()).await?;
        *slot = Some(Entry {
            input: Arc::new(input),
            value: Arc::new(value.clone()),
        });
        Ok(value)
    }

    fn slot(&self, key: &Key) -> Arc<Slot> {
        let mut current = self.0.current.lock();
        current.entry(key.clone()).or_default().clone()
    }

    /// Why the application is built.
    ///
    /// ```
    /// # fn app(setup: slackwater::Setup) {
    /// if setup.reason() == slackwater::Reason::Check { /* do not migrate the database */ }
    /// # }
    /// ```
    #[must_use]
    pub fn reason(&self) -> Reason {
        self.0.reason
    }

    /// The number of the generation: 1 at start, one more with each reload.
    ///
    /// ```
    /// # fn app(setup: slackwater::Setup) {
    /// log::info!("building generation {}", setup.generation());
    /// # }
    /// ```
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.0.generation
    }

    /// Told when this generation is to finish.
    ///
    /// ```
    /// # fn app(setup: slackwater::Setup) {
    /// let draining = setup.draining();
    /// async_std::task::spawn(async move { draining.wait().await });
    /// # }
    /// ```
    #[must_use]
    pub fn draining(&self) -> Token {
        self.0.draining.clone()
    }

    /// What was made or found again, for the generation that is being built to keep.
    pub(crate) fn kept(&self) -> Kept {
        let current = self.0.current.lock();
        // a slot that is locked is still being made by a task that `app` did not wait for: it comes too late
        let made = |(key, slot): (&Key, &Arc<Slot>)| Some((key.clone(), slot.try_lock()?.clone()?));
        Kept(Arc::new(current.iter().filter_map(made).collect()))
    }
}

impl Entry {
    fn get<I: PartialEq + 'static, T: Clone + 'static>(&self, input: &I) -> Option<T> {
        let equal = self
            .input
            .downcast_ref::<I>()
            .is_some_and(|made_from| made_from == input);
        self.value.downcast_ref::<T>().filter(|_| equal).cloned()
    }
}

impl fmt::Debug for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner {
            reason, generation, ..
        } = &*self.0;
        f.debug_struct("Setup")
            .field("reason", reason)
            .field("generation", generation)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::{block_on, yield_now, zip};
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn setup(previous: Option<&Kept>) -> Setup {
        Setup::new(Reason::Test, 1, crate::sync::token::token().1, previous)
    }

    async fn make(text: String) -> Result<Arc<str>, Infallible> {
        yield_now().await;
        Ok(text.into())
    }

    fn ask(setup: &Setup, input: &str) -> Arc<str> {
        block_on(setup.reuse("key", input.to_owned(), make)).unwrap()
    }

    #[test]
    fn a_value_survives_as_long_as_its_input_is_equal() {
        let first = setup(None);
        let value = ask(&first, "a");
        let second = setup(Some(&first.kept()));
        assert!(Arc::ptr_eq(&value, &ask(&second, "a")));
        let third = setup(Some(&second.kept()));
        let other = ask(&third, "b");
        assert_eq!(&*other, "b");
        assert!(Arc::ptr_eq(&other, &ask(&setup(Some(&third.kept())), "b")));
    }

    #[test]
    fn a_value_nobody_asked_for_again_is_dropped() {
        let first = setup(None);
        let value = ask(&first, "a");
        let second = setup(Some(&first.kept()));
        let kept = second.kept();
        drop((first, second));
        assert_eq!(Arc::strong_count(&value), 1);
        assert!(!Arc::ptr_eq(&value, &ask(&setup(Some(&kept)), "a")));
    }

    #[test]
    fn a_key_with_another_type_is_another_value() {
        let setup = setup(None);
        ask(&setup, "a");
        let number =
            block_on(setup.reuse("key", "a".to_owned(), |_| async { Ok::<_, Infallible>(1) }));
        assert_eq!(number, Ok(1));
    }

    #[test]
    fn a_value_that_cannot_be_made_is_not_kept() {
        let setup = setup(None);
        let failed = block_on(setup.reuse("key", "a".to_owned(), |_| async {
            Err::<Arc<str>, _>("no")
        }));
        assert_eq!(failed, Err("no"));
        assert!(setup.kept().0.is_empty());
        assert_eq!(&*ask(&setup, "a"), "a");
    }

    #[test]
    fn asked_twice_at_once_it_is_made_once() {
        let (setup, made) = (setup(None), AtomicUsize::new(0));
        let ask = || {
            setup.reuse("key", 1, |input: i32| {
                made.fetch_add(1, Ordering::Relaxed);
                async move {
                    yield_now().await;
                    Ok::<_, Infallible>(input)
                }
            })
        };
        assert_eq!(block_on(zip(ask(), ask())), (Ok(1), Ok(1)));
        assert_eq!(made.into_inner(), 1);
    }
}

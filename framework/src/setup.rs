//! The second argument of the application's function: the reason for the call, and values of the previous generation.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use crate::sync::lock::Mutex;
use crate::sync::token::Token;

/// Information for the application's function `app`, and values that outlive a reload.
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
pub struct Setup(Arc<SetupInner>);

struct SetupInner {
    reason: Reason,
    generation: u64,
    draining: Token,
    previous: ReusableValues,
    current: Mutex<HashMap<ValueKey, Arc<ValueCell>>>,
}

/// The reason for which `app` is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// The process starts.
    Start,
    /// The configuration is loaded again.
    Reload,
    /// The process takes over from a running process.
    Upgrade,
    /// `APP check` or a similar command. Nothing is served, so `app` must not change anything outside the process.
    Check,
    /// A test.
    Test,
}

/// The key of a value. The types are part of it: the same name with other types is another value.
#[derive(Clone, PartialEq, Eq, Hash)]
struct ValueKey {
    name: String,
    input: TypeId,
    value: TypeId,
}

/// A value, or `None` until it is made. The lock is held while the value is made, so that a second caller waits for it.
type ValueCell = async_std::sync::Mutex<Option<CachedValue>>;

/// A value and the input that it was made from. Both have the types of the key.
#[derive(Clone)]
struct CachedValue {
    input: Arc<dyn Any + Send + Sync>,
    value: Arc<dyn Any + Send + Sync>,
}

/// The values of a generation that the next generation may reuse.
#[derive(Clone, Default)]
pub(crate) struct ReusableValues(Arc<HashMap<ValueKey, CachedValue>>);

impl Setup {
    pub(crate) fn new(
        reason: Reason,
        generation: u64,
        draining: Token,
        previous: Option<&ReusableValues>,
    ) -> Self {
        let previous = previous.cloned().unwrap_or_default();
        Setup(Arc::new(SetupInner {
            reason,
            generation,
            draining,
            previous,
            current: Mutex::default(),
        }))
    }

    /// Returns the value that the previous generation has under `key`, if it was made from an equal `input`; otherwise
    /// makes it with `make(input)`. The types of `input` and value are part of the key.
    ///
    /// A generation keeps only the values that its own `app` has requested; the others are dropped with the previous
    /// generation. Concurrent calls with the same key make the value once. `make` must not call `reuse` with the key of
    /// the value that it makes, because that call would wait forever.
    ///
    /// # Errors
    /// The error of `make`. No value is stored in that case.
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
        let key = ValueKey {
            name: key.into(),
            input: TypeId::of::<I>(),
            value: TypeId::of::<T>(),
        };
        let cell = self.cell(&key);
        let mut cell = cell.lock().await;
        let existing = cell.as_ref().or_else(|| self.0.previous.0.get(&key));
        if let Some((cached, value)) =
            existing.and_then(|cached| Some((cached.clone(), cached.get(&input)?)))
        {
            *cell = Some(cached);
            return Ok(value);
        }
        let value = make(input.clone()).await?;
        *cell = Some(CachedValue {
            input: Arc::new(input),
            value: Arc::new(value.clone()),
        });
        Ok(value)
    }

    fn cell(&self, key: &ValueKey) -> Arc<ValueCell> {
        let mut current = self.0.current.lock();
        current.entry(key.clone()).or_default().clone()
    }

    /// Returns the reason for this call of `app`.
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

    /// Returns the number of the generation: 1 at the start, increased by 1 at each reload.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.0.generation
    }

    /// Returns a token that is triggered when this generation must finish its work: after a reload, or at a shutdown.
    ///
    /// ```
    /// # fn app(setup: slackwater::Setup) {
    /// let draining = setup.draining();
    /// async_std::task::spawn(async move {
    ///     draining.wait().await;
    ///     // stop consuming from a queue
    /// });
    /// # }
    /// ```
    #[must_use]
    pub fn draining(&self) -> Token {
        self.0.draining.clone()
    }

    /// Returns the values that this call of `app` has requested.
    pub(crate) fn reusable_values(&self) -> ReusableValues {
        let current = self.0.current.lock();
        // A locked cell belongs to a value that a task still makes although `app` has returned. It is not kept.
        let finished = |(key, cell): (&ValueKey, &Arc<ValueCell>)| {
            Some((key.clone(), cell.try_lock()?.clone()?))
        };
        ReusableValues(Arc::new(current.iter().filter_map(finished).collect()))
    }
}

impl CachedValue {
    fn get<I: PartialEq + 'static, T: Clone + 'static>(&self, input: &I) -> Option<T> {
        let equal = self
            .input
            .downcast_ref::<I>()
            .is_some_and(|stored| stored == input);
        self.value.downcast_ref::<T>().filter(|_| equal).cloned()
    }
}

impl fmt::Debug for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SetupInner {
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

    fn setup(previous: Option<&ReusableValues>) -> Setup {
        Setup::new(Reason::Test, 1, crate::sync::token::token().1, previous)
    }

    async fn make(text: String) -> Result<Arc<str>, Infallible> {
        yield_now().await;
        Ok(text.into())
    }

    fn reuse(setup: &Setup, input: &str) -> Arc<str> {
        block_on(setup.reuse("key", input.to_owned(), make)).unwrap()
    }

    #[test]
    fn a_value_is_reused_as_long_as_its_input_is_equal() {
        let first = setup(None);
        let value = reuse(&first, "a");
        let second = setup(Some(&first.reusable_values()));
        assert!(Arc::ptr_eq(&value, &reuse(&second, "a")));
        let third = setup(Some(&second.reusable_values()));
        let other = reuse(&third, "b");
        assert_eq!(&*other, "b");
        assert!(Arc::ptr_eq(
            &other,
            &reuse(&setup(Some(&third.reusable_values())), "b")
        ));
    }

    #[test]
    fn a_value_that_is_not_requested_again_is_dropped() {
        let first = setup(None);
        let value = reuse(&first, "a");
        let second = setup(Some(&first.reusable_values()));
        let reusable = second.reusable_values();
        drop((first, second));
        assert_eq!(Arc::strong_count(&value), 1);
        assert!(!Arc::ptr_eq(&value, &reuse(&setup(Some(&reusable)), "a")));
    }

    #[test]
    fn the_same_name_with_another_type_is_another_value() {
        let setup = setup(None);
        reuse(&setup, "a");
        let number =
            block_on(setup.reuse("key", "a".to_owned(), |_| async { Ok::<_, Infallible>(1) }));
        assert_eq!(number, Ok(1));
    }

    #[test]
    fn a_failed_make_stores_no_value() {
        let setup = setup(None);
        let failed = block_on(setup.reuse("key", "a".to_owned(), |_| async {
            Err::<Arc<str>, _>("no")
        }));
        assert_eq!(failed, Err("no"));
        assert!(setup.reusable_values().0.is_empty());
        assert_eq!(&*reuse(&setup, "a"), "a");
    }

    #[test]
    fn concurrent_requests_make_the_value_once() {
        let (setup, made) = (setup(None), AtomicUsize::new(0));
        let request = || {
            setup.reuse("key", 1, |input: i32| {
                made.fetch_add(1, Ordering::Relaxed);
                async move {
                    yield_now().await;
                    Ok::<_, Infallible>(input)
                }
            })
        };
        assert_eq!(block_on(zip(request(), request())), (Ok(1), Ok(1)));
        assert_eq!(made.into_inner(), 1);
    }
}

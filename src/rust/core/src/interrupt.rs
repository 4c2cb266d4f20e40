//! Stopping long work from outside, and seeing how far it is.
//!
//! The threads of a pool carry a token. Long work looks at it between its steps (kernels, panels, rounds, blocks
//! of genes) and ends with [`Error::Interrupted`] once it is set. Work outside such a pool is never stopped.
//! Work that is done in steps counts them on the token.

use crate::error::{Error, Result};
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// A token by which one thread stops the work of others; its clones are the same token.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<State>);

#[derive(Debug, Default)]
struct State {
    set: AtomicBool,
    /// How often work has looked at the token; at so many looks it is set, unless 0.
    #[cfg(test)]
    looks: AtomicUsize,
    #[cfg(test)]
    last: AtomicUsize,
    /// Steps done, and all that are expected.
    done: AtomicUsize,
    expected: AtomicUsize,
}

thread_local! {
    static CARRIED: RefCell<Option<Interrupt>> = const { RefCell::new(None) };
}

impl Interrupt {
    /// A token that is not set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks the work to end.
    pub fn set(&self) {
        self.0.set.store(true, Ordering::Relaxed);
    }

    /// Whether it is set; for tests, it sets itself at its last look.
    fn is_set(&self) -> bool {
        #[cfg(test)]
        {
            let look = self.0.looks.fetch_add(1, Ordering::Relaxed) + 1;
            if look == self.0.last.load(Ordering::Relaxed) {
                self.set();
            }
        }
        self.0.set.load(Ordering::Relaxed)
    }

    /// Steps that are done, and all that are expected so far.
    pub fn progress(&self) -> (usize, usize) {
        (self.0.done.load(Ordering::Relaxed), self.0.expected.load(Ordering::Relaxed))
    }

    /// A pool of so many threads (at least one) that carry the token.
    ///
    /// # Errors
    /// [`Error::Threads`] if the system gives no threads.
    pub fn pool(&self, threads: usize) -> Result<ThreadPool> {
        let token = self.clone();
        ThreadPoolBuilder::new()
            .num_threads(threads.max(1))
            .start_handler(move |_| CARRIED.set(Some(token.clone())))
            .build()
            .map_err(|error| Error::Threads(error.to_string()))
    }
}

/// Whether this thread carries a token that is set. What was being computed must not be used then.
pub(crate) fn requested() -> bool {
    CARRIED.with_borrow(|token| token.as_ref().is_some_and(Interrupt::is_set))
}

/// [`Error::Interrupted`] if this thread carries a token that is set.
pub(crate) fn check() -> Result<()> {
    if requested() { Err(Error::Interrupted) } else { Ok(()) }
}

/// Tells the token that so many steps more are to come.
pub(crate) fn expect(steps: usize) {
    CARRIED.with_borrow(|token| {
        token.as_ref().map(|token| token.0.expected.fetch_add(steps, Ordering::Relaxed))
    });
}

/// Tells the token that a step is done.
pub(crate) fn step() {
    CARRIED.with_borrow(|token| token.as_ref().map(|token| token.0.done.fetch_add(1, Ordering::Relaxed)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{cosine, irregular, normal, se};
    use crate::patterns::{Settings, find_patterns};
    use crate::{Approximation, Request, SpatialTest, Spectrum};
    use faer::Mat;

    #[test]
    fn all_long_work_ends_when_its_token_is_set_and_none_before() {
        let locations = irregular(300, 2, 5);
        let kernels = [0.5, 3.0].map(se);
        let mut normal = normal(6);
        let y = Mat::from_fn(300, 40, |_, _| normal());
        let settings = Settings { n_patterns: vec![2], restarts: 2, ..Settings::default() };
        for approximation in
            [Approximation::Exact, Approximation::PivotedCholesky, Approximation::Krylov, Approximation::Grid]
        {
            let prepare = || {
                SpatialTest::with_groups(&kernels, &[0, 0], locations.clone(), Request::test(approximation))?
                    .calibrate()
            };
            let token = Interrupt::new();
            let pool = token.pool(2).unwrap();
            let test = pool.install(prepare).unwrap();
            let fits = pool.install(|| test.fit(y.as_ref())).unwrap();
            assert!(format!("{fits:?}") == format!("{:?}", test.fit(y.as_ref()).unwrap()));
            assert_eq!(token.progress(), (4, 4));
            token.set();
            assert_eq!(pool.install(prepare).unwrap_err(), Error::Interrupted);
            assert_eq!(pool.install(|| test.fit(y.as_ref())).unwrap_err(), Error::Interrupted);
            // Threads without the token do not care.
            assert!(test.fit(y.as_ref()).is_ok());
        }
        let token = Interrupt::new();
        let pool = token.pool(2).unwrap();
        let spectra = pool.install(|| Spectrum::dense_all(&kernels, &locations)).unwrap();
        token.set();
        let patterns = pool.install(|| find_patterns(&spectra, y.as_ref(), &settings).map(|_| ()));
        assert_eq!(patterns.unwrap_err(), Error::Interrupted);
    }

    /// How often work looks at its token, if it is set at look `last` (0: never).
    fn looks(last: usize, work: impl FnOnce() -> Result<()> + Send) -> (usize, Result<()>) {
        let token = Interrupt::new();
        token.0.last.store(last, Ordering::Relaxed);
        let done = token.pool(1).unwrap().install(work);
        (token.0.looks.load(Ordering::Relaxed), done)
    }

    #[test]
    fn a_dense_decomposition_ends_where_it_is() {
        let locations = irregular(1100, 2, 7);
        let work = || Spectrum::dense(se(3.0), &locations).map(|_| ());
        let (all, done) = looks(0, work);
        // 35 panels there, and 35 back.
        assert!(done.is_ok() && all > 70, "{all}");
        for last in [2, 20, all / 2, all - 1] {
            let (seen, done) = looks(last, work);
            assert_eq!(done, Err(Error::Interrupted), "at {last} of {all}");
            assert!(seen <= last + 2, "at {last} of {all}, but {seen} looks");
        }
    }

    #[test]
    fn work_that_is_under_way_ends_within_a_few_looks() {
        let locations = irregular(1200, 2, 7);
        let kernels = [se(0.5), se(4.0), cosine(60.0)];
        let mut normal = normal(8);
        let y = Mat::from_fn(1200, 40, |_, _| normal());
        for approximation in [Approximation::PivotedCholesky, Approximation::Auto] {
            let prepare = || {
                let request = Request::test(approximation);
                SpatialTest::with_groups(&kernels, &[0; 3], locations.clone(), request)
            };
            let test = prepare().unwrap();
            let prepare = || prepare().map(|_| ());
            let fit = || test.fit(y.as_ref()).map(|_| ());
            let works: [(&str, &(dyn Fn() -> Result<()> + Sync)); 2] = [("prepare", &prepare), ("fit", &fit)];
            for (name, work) in works {
                let (all, done) = looks(0, work);
                assert!(done.is_ok() && all >= 3, "{name}: {all}");
                for last in [1, 2, all / 2, all - 1] {
                    let (seen, done) = looks(last, work);
                    assert_eq!(done, Err(Error::Interrupted), "{name}: at {last} of {all}");
                    // Each kernel that has begun may look again on its way out.
                    assert!(seen <= last + 8, "{name}: at {last} of {all}, but {seen} looks");
                }
            }
        }
    }
}

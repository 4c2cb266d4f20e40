//! Stopping long work from outside.
//!
//! The threads of a pool carry a token. Long work looks at it between its steps (kernels, panels, rounds, blocks
//! of genes) and ends with [`Error::Interrupted`] once it is set. Work outside such a pool is never stopped.

use crate::error::{Error, Result};
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A token by which one thread stops the work of others; its clones are the same token.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<AtomicBool>);

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
        self.0.store(true, Ordering::Relaxed);
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
    CARRIED.with_borrow(|token| token.as_ref().is_some_and(|token| token.0.load(Ordering::Relaxed)))
}

/// [`Error::Interrupted`] if this thread carries a token that is set.
pub(crate) fn check() -> Result<()> {
    if requested() { Err(Error::Interrupted) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{irregular, normal, se};
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
        for approximation in [Approximation::Exact, Approximation::PivotedCholesky, Approximation::Krylov] {
            let prepare = || {
                SpatialTest::with_groups(&kernels, &[0, 0], locations.clone(), Request::test(approximation))?
                    .calibrate()
            };
            let token = Interrupt::new();
            let pool = token.pool(2).unwrap();
            let test = pool.install(prepare).unwrap();
            let fits = pool.install(|| test.fit(y.as_ref())).unwrap();
            assert!(format!("{fits:?}") == format!("{:?}", test.fit(y.as_ref()).unwrap()));
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

    #[test]
    fn work_that_is_under_way_ends() {
        let locations = irregular(20_000, 2, 7);
        let kernels = [0.5, 1.0, 20.0].map(se);
        let token = Interrupt::new();
        let pool = token.pool(1).unwrap();
        let (sender, receiver) = std::sync::mpsc::channel();
        pool.spawn(move || {
            let made =
                SpatialTest::with_groups(&kernels, &[0, 0, 0], locations, Request::test(Approximation::Auto));
            sender.send(made.map(|_| ())).unwrap();
        });
        std::thread::sleep(std::time::Duration::from_millis(300));
        assert!(receiver.try_recv().is_err(), "it should take longer");
        token.set();
        let ended = receiver.recv_timeout(std::time::Duration::from_secs(20)).unwrap();
        assert_eq!(ended.unwrap_err(), Error::Interrupted);
    }
}

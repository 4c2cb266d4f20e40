//! Work on other threads, while R's own thread looks for the user's interrupts and time limits.

use crate::convert::message;
use extendr_api::prelude::*;
use extendr_api::{Error, Result};
use patina_core::Interrupt;
use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// How often interrupts are looked for.
const LOOK: Duration = Duration::from_millis(100);

/// Any object of R's; here only `NULL`.
type Object = *mut c_void;

// R on Windows jumps by unwinding the stack.
unsafe extern "C-unwind" {
    static R_NilValue: Object;
    fn R_CheckUserInterrupt();
    fn R_ToplevelExec(run: extern "C-unwind" fn(*mut c_void), data: *mut c_void) -> c_int;
    fn R_tryCatchError(
        body: extern "C-unwind" fn(*mut c_void) -> Object,
        data: *mut c_void,
        handler: extern "C-unwind" fn(Object, *mut c_void) -> Object,
        handler_data: *mut c_void,
    ) -> Object;
}

extern "C-unwind" fn look(_: *mut c_void) -> Object {
    // SAFETY: only `look_for_errors()` has it called, on R's thread. A jump out of it ends in `R_tryCatchError()`
    // or in `R_ToplevelExec()`; on its way are frames of Rust that have nothing to drop.
    unsafe {
        R_CheckUserInterrupt();
        R_NilValue
    }
}

extern "C-unwind" fn note(_: Object, error: *mut c_void) -> Object {
    // SAFETY: `pending()` gave it the place, and waits.
    unsafe {
        *error.cast::<bool>() = true;
        R_NilValue
    }
}

extern "C-unwind" fn look_for_errors(error: *mut c_void) {
    // SAFETY: only `pending()` has it called, on R's thread.
    unsafe { R_tryCatchError(look, std::ptr::null_mut(), note, error) };
}

/// Why the work should end before it is done, if R says so; R forgets it then. For R's thread only.
fn pending() -> Option<Error> {
    let mut error = false;
    // SAFETY: all functions of this file are called by R, on its thread; `error` outlives the call.
    let went_on = unsafe { R_ToplevelExec(look_for_errors, (&raw mut error).cast()) != 0 };
    if error {
        // the only error that looking for interrupts has
        Some(Error::Other("[timeout] the time limit was reached before the work was done".into()))
    } else if went_on {
        None
    } else {
        Some(message(patina_core::Error::Interrupted))
    }
}

/// Tells an R function how many steps are done, of how many; `NULL` if nobody wants to know.
pub struct Watch(Option<Function>, Cell<(usize, usize)>);

impl Watch {
    /// Nobody.
    pub fn none() -> Self {
        Self(None, Cell::new((0, 0)))
    }

    /// From what R gives.
    pub fn new(tick: Robj) -> Self {
        Self(tick.as_function(), Cell::new((0, 0)))
    }

    /// For R's thread only. An error of the R function stops the work.
    fn look(&self, interrupt: &Interrupt) -> Option<Error> {
        let (tick, now) = (self.0.as_ref()?, interrupt.progress());
        if self.1.replace(now) == now {
            return None;
        }
        let told = tick.call(pairlist!(now.0 as i32, now.1 as i32));
        told.err().map(|_| message(patina_core::Error::Interrupted))
    }
}

/// Runs in a pool of so many threads. At an interrupt it ends when the work has looked at its token.
pub fn in_pool<T: Send>(threads: i32, work: impl FnOnce() -> patina_core::Result<T> + Send) -> Result<T> {
    in_watched_pool(threads, &Watch::none(), work)
}

/// The same, and R sees how far it is.
pub fn in_watched_pool<T: Send>(
    threads: i32,
    watch: &Watch,
    work: impl FnOnce() -> patina_core::Result<T> + Send,
) -> Result<T> {
    let interrupt = Interrupt::new();
    let pool = interrupt.pool(threads.max(1) as usize).map_err(message)?;
    let (sender, receiver) = channel();
    let mut stopped = None;
    // The scope ends with the work, and passes its panics on.
    let done = pool.in_place_scope(|scope| {
        scope.spawn(move |_| {
            let _ = sender.send(work());
        });
        loop {
            match receiver.recv_timeout(LOOK) {
                Err(RecvTimeoutError::Timeout) => {
                    if let Some(why) = pending().or_else(|| watch.look(&interrupt)) {
                        interrupt.set();
                        stopped = Some(why);
                    }
                }
                done => return done,
            }
        }
    });
    match stopped {
        Some(why) => Err(why),
        None => done.map_err(no_result)?.map_err(message),
    }
}

/// The same for work that owns its data. At an interrupt it is left behind, to end when it looks at its token: a
/// decomposition that is under way cannot be stopped.
pub fn in_own_pool<T: Send + 'static>(
    threads: i32,
    watch: &Watch,
    work: impl FnOnce() -> patina_core::Result<T> + Send + 'static,
) -> Result<T> {
    let interrupt = Interrupt::new();
    let pool = interrupt.pool(threads.max(1) as usize).map_err(message)?;
    let (sender, receiver) = channel();
    pool.spawn(move || {
        // After an interrupt nobody listens.
        let _ = sender.send(catch_unwind(AssertUnwindSafe(work)));
    });
    loop {
        match receiver.recv_timeout(LOOK) {
            Ok(Ok(done)) => return done.map_err(message),
            Ok(Err(panic)) => resume_unwind(panic),
            Err(RecvTimeoutError::Timeout) => {
                if let Some(why) = pending().or_else(|| watch.look(&interrupt)) {
                    interrupt.set();
                    return Err(why);
                }
            }
            Err(closed) => return Err(no_result(closed)),
        }
    }
}

fn no_result(_: RecvTimeoutError) -> Error {
    Error::Other("a thread ended before its work was done".into())
}

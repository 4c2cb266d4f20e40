//! Work on other threads, while R's own thread looks for the user's interrupts.

use crate::convert::message;
use extendr_api::{Error, Result};
use patina_core::Interrupt;
use std::ffi::{c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// How often interrupts are looked for.
const LOOK: Duration = Duration::from_millis(100);

// R on Windows jumps by unwinding the stack.
unsafe extern "C-unwind" {
    fn R_CheckUserInterrupt();
    fn R_ToplevelExec(run: extern "C-unwind" fn(*mut c_void), data: *mut c_void) -> c_int;
}

extern "C-unwind" fn look(_: *mut c_void) {
    // SAFETY: only `pending()` has it called, on R's thread. A jump out of it ends in `R_ToplevelExec()`; on its way
    // is no frame of Rust but this one, which has nothing to drop.
    unsafe { R_CheckUserInterrupt() }
}

/// Whether the user has interrupted R, which then forgets it. For R's thread only.
fn pending() -> bool {
    // SAFETY: all functions of this file are called by R, on its thread; `look()` makes nothing of its argument.
    unsafe { R_ToplevelExec(look, std::ptr::null_mut()) == 0 }
}

/// Runs in a pool of so many threads. At an interrupt it ends when the work has looked at its token.
pub fn in_pool<T: Send>(threads: i32, work: impl FnOnce() -> patina_core::Result<T> + Send) -> Result<T> {
    let interrupt = Interrupt::new();
    let pool = interrupt.pool(threads.max(1) as usize).map_err(message)?;
    let (sender, receiver) = channel();
    let mut interrupted = false;
    // The scope ends with the work, and passes its panics on.
    let done = pool.in_place_scope(|scope| {
        scope.spawn(move |_| {
            let _ = sender.send(work());
        });
        loop {
            match receiver.recv_timeout(LOOK) {
                Err(RecvTimeoutError::Timeout) if pending() => {
                    interrupt.set();
                    interrupted = true;
                }
                Err(RecvTimeoutError::Timeout) => {}
                done => return done,
            }
        }
    });
    let done = if interrupted { Err(patina_core::Error::Interrupted) } else { done.map_err(no_result)? };
    done.map_err(message)
}

/// The same for work that owns its data. At an interrupt it is left behind, to end when it looks at its token: a
/// decomposition that is under way cannot be stopped.
pub fn in_own_pool<T: Send + 'static>(
    threads: i32,
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
            Err(RecvTimeoutError::Timeout) if pending() => {
                interrupt.set();
                return Err(message(patina_core::Error::Interrupted));
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(closed) => return Err(no_result(closed)),
        }
    }
}

fn no_result(_: RecvTimeoutError) -> Error {
    Error::Other("a thread ended before its work was done".into())
}

//! What calls return, and the thread's last error.

use std::any::Any;
use std::cell::RefCell;
use std::ffi::{CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

use muse::{Error, Result};

use crate::numbers::*;

thread_local! {
    static LAST: RefCell<(Status, CString)> = RefCell::default();
}

/// Code of the last call of this thread that failed; MUSE_OK where none has.
#[unsafe(no_mangle)]
pub extern "C" fn muse_last_status() -> Status {
    LAST.try_with(|last| last.borrow().0).unwrap_or(MUSE_OK)
}

/// What the last call of this thread that failed found wrong, and what to do; empty where none has. It lasts until
/// the next call of this thread that fails, and is not to be freed.
#[unsafe(no_mangle)]
pub extern "C" fn muse_last_error() -> *const c_char {
    LAST.try_with(|last| last.borrow().1.as_ptr()).unwrap_or(c"".as_ptr())
}

/// Runs what a function does. Neither errors nor panics leave it: they become its status, and the last error.
pub fn guarded(work: impl FnOnce() -> Result<()>) -> Status {
    let (status, message) = match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(())) => return MUSE_OK,
        Ok(Err(error)) => (Status::from(error.exit_code()), error.to_string()),
        Err(panic) => (MUSE_PANIC, format!("a bug in muse, please report it: {}", words(&*panic))),
    };
    let message = text(&message);
    let _ = LAST.try_with(|last| *last.borrow_mut() = (status, message)); // none while the thread ends
    status
}

/// Text for C, which ends at a NUL.
pub fn text(text: &str) -> CString {
    CString::new(text.replace('\0', "\u{fffd}")).unwrap_or_default()
}

fn words(panic: &(dyn Any + Send)) -> &str {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(words), _) => words,
        (_, Some(words)) => words,
        _ => "a panic",
    }
}

/// The error of an argument.
pub fn unusable(name: &'static str, found: impl ToString, expected: impl Into<String>) -> Error {
    Error::Option { name, found: found.to_string(), expected: expected.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_the_program() {
        let problem = String::new;
        let source = std::io::Error::other("x");
        let model = Error::Model { path: "x".into(), problem: problem() };
        let file = Error::Io { path: "x".into(), action: "x", source };
        let device = Error::Device { device: problem(), problem: problem() };
        for (error, status) in [
            (unusable("x", "x", "x"), MUSE_OPTION),
            (model, MUSE_MODEL),
            (file, MUSE_IO),
            (device, MUSE_DEVICE),
            (Error::Cancelled { stage: "base", step: 0 }, MUSE_CANCELLED),
        ] {
            assert_eq!(guarded(|| Err(error)), status);
        }
    }

    #[test]
    fn a_panic_becomes_a_status() {
        assert_eq!(guarded(|| panic!("number {}", 7)), MUSE_PANIC);
        assert_eq!(muse_last_status(), MUSE_PANIC);
        // SAFETY: it is text until the next failure.
        let message = unsafe { std::ffi::CStr::from_ptr(muse_last_error()) };
        assert_eq!(message.to_str(), Ok("a bug in muse, please report it: number 7"));
    }
}

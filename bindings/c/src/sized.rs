//! What comes from C: structs that begin with their size, text, and arrays. All of it is checked as far as it can
//! be; that pointers are either NULL or good is the caller's to see to.

use std::ffi::{CStr, c_char};

use muse::{Error, Result};

use crate::status::unusable;

/// Longest struct that is believed.
pub const MOST: usize = 4096;

/// A struct that C programs share with the library and that may grow at its end.
///
/// # Safety
/// It is `repr(C)`, begins with a `usize`, its size, and any bytes are a value of it. It ends without padding: a later
/// field there would read an older program's.
pub unsafe trait Grows: Copy {
    /// Its name in C.
    const NAME: &'static str;
    /// Its size in the first version of the interface.
    const FIRST: usize;
}

/// Reads a struct of the caller's. A shorter one than ours is an older program's: its last fields are those of
/// `rest`. What a longer one has beyond ours must be zero.
///
/// # Safety
/// `from` is NULL or points to as many bytes as its first field says.
pub unsafe fn read<T: Grows>(from: *const T, rest: T) -> Result<T> {
    // SAFETY: the caller's word.
    unsafe {
        let size = size_of_struct(from)?;
        let (bytes, known) = (from.cast::<u8>(), size_of::<T>());
        if size > known {
            let beyond = std::slice::from_raw_parts(bytes.add(known), size - known);
            if beyond.iter().any(|&byte| byte != 0) {
                let found = format!("{size} bytes with something in those after {known}");
                let expected =
                    "no more fields than this library knows; take one of the header's version";
                return Err(unusable(T::NAME, found, expected));
            }
        }
        let mut value = rest;
        std::ptr::copy_nonoverlapping(bytes, (&raw mut value).cast(), size.min(known));
        Ok(value)
    }
}

/// Fills a struct of the caller's, as far as it reaches; its size stays.
///
/// # Safety
/// As of [`read`]; the bytes are the caller's to give.
pub unsafe fn write<T: Grows>(to: *mut T, value: &T) -> Result<()> {
    // SAFETY: the caller's word.
    unsafe {
        let (size, skipped) = (size_of_struct(to)?.min(size_of::<T>()), size_of::<usize>());
        let from = std::ptr::from_ref(value).cast::<u8>().add(skipped);
        std::ptr::copy_nonoverlapping(from, to.cast::<u8>().add(skipped), size - skipped);
        Ok(())
    }
}

unsafe fn size_of_struct<T: Grows>(of: *const T) -> Result<usize> {
    if of.is_null() {
        return Err(null(T::NAME));
    }
    // SAFETY: its first field, see the trait.
    let size = unsafe { *of.cast::<usize>() };
    match (T::FIRST..=MOST).contains(&size) {
        true => Ok(size),
        false => Err(wrong_size::<T>(size)),
    }
}

/// The error of a struct whose size cannot be.
pub fn wrong_size<T: Grows>(size: usize) -> Error {
    let expected = format!("its sizeof in the field size, {}", size_of::<T>());
    unusable(T::NAME, format!("a size of {size}"), expected)
}

/// The error of an absent argument.
pub fn null(name: &'static str) -> Error {
    unusable(name, "NULL", "a pointer")
}

/// What a pointer points to.
///
/// # Safety
/// It is NULL or good for reading as long as the result is used.
pub unsafe fn at<'a, T>(name: &'static str, pointer: *const T) -> Result<&'a T> {
    // SAFETY: the caller's word.
    unsafe { pointer.as_ref() }.ok_or_else(|| null(name))
}

/// The place for a result; it is made NULL first.
///
/// # Safety
/// It is NULL or good for writing as long as the result is used.
pub unsafe fn place<'a, T>(name: &'static str, pointer: *mut *mut T) -> Result<&'a mut *mut T> {
    // SAFETY: the caller's word.
    let place = unsafe { pointer.as_mut() }.ok_or_else(|| null(name))?;
    *place = std::ptr::null_mut();
    Ok(place)
}

/// Text; `None` for NULL.
///
/// # Safety
/// It is NULL or ends in a NUL, and stays as it is as long as the result is used.
pub unsafe fn text<'a>(name: &'static str, pointer: *const c_char) -> Result<Option<&'a str>> {
    if pointer.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller's word.
    let bytes = unsafe { CStr::from_ptr(pointer) };
    let wrong = |_| unusable(name, format!("the bytes {bytes:?}"), "text in UTF-8");
    bytes.to_str().map(Some).map_err(wrong)
}

/// `count` bytes; `None` for NULL.
///
/// # Safety
/// It is NULL or good for reading that many.
pub unsafe fn bytes<'a>(
    name: &'static str,
    pointer: *const u8,
    count: Option<usize>,
) -> Result<Option<&'a [u8]>> {
    if pointer.is_null() {
        return Ok(None);
    }
    let Some(count) = count.filter(|&count| count <= isize::MAX as usize) else {
        return Err(unusable(name, "more bytes than memory has", "an image that fits in memory"));
    };
    // SAFETY: the caller's word.
    Ok(Some(unsafe { std::slice::from_raw_parts(pointer, count) }))
}

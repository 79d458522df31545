//! What device code calls of the runtime: `vprintf` and `__assertfail`.

use std::ffi::{CString, c_char, c_int};

use super::Fault;
use super::access::{Deed, Space};
use super::lanes::{Operation, each};
use super::op::{Ctx, Op};
use crate::finding::Kind;

/// Longest text that a call may read.
const LONGEST: usize = 64 << 10;

/// `vprintf(format, arguments)`. The list names the arguments' places in the caller's local variables as
/// a call's do; the first source is where those begin, `immediate` the number of the call.
pub struct Printf;

impl Operation for Printf {
    #[inline(always)]
    unsafe fn run(ctx: &mut Ctx<'_>, op: &Op, mask: u32) {
        let block = linear_block(ctx);
        for lane in each(mask) {
            let Some([format, arguments]) = arguments(ctx, op, lane) else { return };
            let Some(format) = text(ctx, op, lane, format) else { return };
            let mut arguments = Arguments { op, lane, at: arguments };
            let Some((written, count)) = write(ctx, &mut arguments, &format) else { return };
            ctx.printed.push((block, written));
            let results = &ctx.kernel.code.calls[op.immediate as usize].results;
            if let (&[(at, 4)], Some(base)) = (&results[..], frame(ctx, op, lane)) {
                ctx.local[base + at as usize..][..4].copy_from_slice(&u32::to_le_bytes(count));
                ctx.local_written[base + at as usize..][..4].fill(1);
            }
        }
    }
}

/// `__assertfail(message, file, line, function, bytes of a character)`.
pub struct AssertFail;

impl Operation for AssertFail {
    #[inline(always)]
    unsafe fn run(ctx: &mut Ctx<'_>, op: &Op, mask: u32) {
        let lane = mask.trailing_zeros() as usize & 31;
        let Some([message, file, line, function]) = arguments(ctx, op, lane) else { return };
        let mut read =
            |at| text(ctx, op, lane, at).map(|t| String::from_utf8_lossy(&t).into_owned());
        let (Some(message), Some(file), Some(function)) =
            (read(message), read(file), read(function))
        else {
            return;
        };
        let line = line as u32;
        let thread = 32 * ctx.warp + lane as u32;
        let [x, y, _] = ctx.launch.block;
        let thread = [thread % x, thread / x % y, thread / (x * y)];
        let block = ctx.block;
        let said = format!(
            "{file}:{line}: {function}: block: {block:?}, thread: {thread:?} Assertion `{message}` failed."
        );
        ctx.find(Kind::Trap, op, lane, None, said.clone());
        ctx.fail(Fault::Assert(said));
    }
}

fn linear_block(ctx: &Ctx<'_>) -> u64 {
    let ([x, y, z], [width, height, _]) =
        (ctx.block.map(u64::from), ctx.launch.grid.map(u64::from));
    x + width * (y + height * z)
}

/// Where a lane's part of the caller's local variables begins.
fn frame(ctx: &Ctx<'_>, op: &Op, lane: usize) -> Option<usize> {
    // SAFETY: the operation's first source is a 64-bit register of the function.
    let base = unsafe { super::lanes::load::<u64>(ctx.registers, op.sources[0])[lane] };
    Some(lane * ctx.kernel.lane_bytes() + usize::try_from(base).ok()?)
}

/// The first arguments of a call.
fn arguments<const N: usize>(ctx: &Ctx<'_>, op: &Op, lane: usize) -> Option<[u64; N]> {
    let places = &ctx.kernel.code.calls[op.immediate as usize].arguments;
    let base = frame(ctx, op, lane)?;
    let mut values = [0; N];
    for (value, &(at, bytes)) in values.iter_mut().zip(places) {
        let mut whole = [0; 8];
        let bytes = bytes.min(8) as usize;
        whole[..bytes].copy_from_slice(&ctx.local[base + at as usize..][..bytes]);
        *value = u64::from_le_bytes(whole);
    }
    Some(values)
}

/// The bytes at a generic address up to a zero; None ends the launch.
fn text(ctx: &mut Ctx<'_>, op: &Op, lane: usize, address: u64) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    while text.len() < LONGEST {
        let at = address + text.len() as u64;
        let byte = ctx.place(op, lane, Space::Generic, at, 1, Deed::Read)?;
        // SAFETY: that is what `place` has checked.
        match unsafe { byte.read() } {
            0 => break,
            byte => text.push(byte),
        }
    }
    Some(text)
}

/// The arguments behind the format, one after another, each at a multiple of its size.
struct Arguments<'a> {
    op: &'a Op,
    lane: usize,
    at: u64,
}

impl Arguments<'_> {
    fn next(&mut self, ctx: &mut Ctx<'_>, bytes: u64) -> Option<u64> {
        let at = self.at.next_multiple_of(bytes);
        self.at = at + bytes;
        let from = ctx.place(self.op, self.lane, Space::Generic, at, bytes as usize, Deed::Read)?;
        // SAFETY: that is what `place` has checked.
        Some(unsafe {
            match bytes {
                4 => from.cast::<u32>().read_unaligned().into(),
                _ => from.cast::<u64>().read_unaligned(),
            }
        })
    }
}

/// The text of a format and its arguments, and how many of these there are.
fn write(ctx: &mut Ctx<'_>, arguments: &mut Arguments<'_>, format: &[u8]) -> Option<(String, u32)> {
    let (mut out, mut count) = (Vec::new(), 0);
    let mut rest = format;
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut spec = Spec::default();
        let Some((length, conversion)) = spec.parse(&mut rest, ctx, arguments)? else {
            // Not a conversion: as it stands.
            out.push(b'%');
            rest = behind;
            continue;
        };
        count += u32::from(conversion != b'%');
        let wide = length == Length::Long;
        match conversion {
            b'%' => out.push(b'%'),
            b'd' | b'i' => {
                let value = arguments.next(ctx, if wide { 8 } else { 4 })?;
                let value = if wide { value as i64 } else { i64::from(value as i32) };
                spec.print(&mut out, "ll", conversion, |to, n, f| {
                    // SAFETY: the format asks for one long long.
                    unsafe { libc::snprintf(to, n, f, value) }
                });
            }
            b'u' | b'o' | b'x' | b'X' => {
                let value = arguments.next(ctx, if wide { 8 } else { 4 })?;
                spec.print(&mut out, "ll", conversion, |to, n, f| {
                    // SAFETY: the format asks for one unsigned long long.
                    unsafe { libc::snprintf(to, n, f, value) }
                });
            }
            b'c' => {
                let value = arguments.next(ctx, 4)? as c_int;
                spec.print(&mut out, "", conversion, |to, n, f| {
                    // SAFETY: the format asks for one int.
                    unsafe { libc::snprintf(to, n, f, value) }
                });
            }
            b'p' => {
                let value = arguments.next(ctx, 8)? as usize as *const c_char;
                spec.print(&mut out, "", conversion, |to, n, f| {
                    // SAFETY: the format asks for one pointer, which is only printed.
                    unsafe { libc::snprintf(to, n, f, value) }
                });
            }
            b's' => {
                let address = arguments.next(ctx, 8)?;
                let (op, lane) = (arguments.op, arguments.lane);
                let value = CString::new(text(ctx, op, lane, address)?).unwrap_or_default();
                spec.print(&mut out, "", conversion, |to, n, f| {
                    // SAFETY: the format asks for one string, which ends with a zero.
                    unsafe { libc::snprintf(to, n, f, value.as_ptr()) }
                });
            }
            _ => {
                let value = f64::from_bits(arguments.next(ctx, 8)?);
                spec.print(&mut out, "", conversion, |to, n, f| {
                    // SAFETY: the format asks for one double.
                    unsafe { libc::snprintf(to, n, f, value) }
                });
            }
        }
    }
    Some((String::from_utf8_lossy(&out).into_owned(), count))
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Length {
    Word,
    Long,
}

/// Flags, width and precision of a conversion, as they are written.
#[derive(Default)]
struct Spec(String);

impl Spec {
    /// Reads what is behind `%`. The outer None ends the launch, the inner one says that it is no
    /// conversion.
    fn parse(
        &mut self,
        rest: &mut &[u8],
        ctx: &mut Ctx<'_>,
        arguments: &mut Arguments<'_>,
    ) -> Option<Option<(Length, u8)>> {
        let mut length = Length::Word;
        loop {
            let Some((&byte, behind)) = rest.split_first() else { return Some(None) };
            *rest = behind;
            match byte {
                b'-' | b'+' | b' ' | b'#' | b'.' | b'0'..=b'9' if self.0.len() < 16 => {
                    self.0.push(char::from(byte));
                }
                b'*' => self.0 += &(arguments.next(ctx, 4)? as i32).to_string(),
                b'h' => {}
                b'l' | b'j' | b'z' | b't' | b'L' => length = Length::Long,
                b'd' | b'i' | b'u' | b'o' | b'x' | b'X' | b'c' | b'p' | b's' | b'%' | b'e'
                | b'E' | b'f' | b'F' | b'g' | b'G' | b'a' | b'A' => {
                    return Some(Some((length, byte)));
                }
                _ => return Some(None),
            }
        }
    }

    /// Formats with the C library, whose `printf` this is in the end.
    fn print(
        &self,
        out: &mut Vec<u8>,
        length: &str,
        conversion: u8,
        format: impl Fn(*mut c_char, usize, *const c_char) -> c_int,
    ) {
        let spec = format!("%{}{length}{}", self.0, char::from(conversion));
        let spec = CString::new(spec).unwrap_or_default();
        let needed = format(std::ptr::null_mut(), 0, spec.as_ptr());
        let mut buffer = vec![0u8; usize::try_from(needed).unwrap_or(0) + 1];
        format(buffer.as_mut_ptr().cast(), buffer.len(), spec.as_ptr());
        buffer.pop();
        out.extend(buffer);
    }
}

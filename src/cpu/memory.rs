//! Aligned memory, typed views of tensors, and per-thread scratch.

use super::simd::{LANES, Lanes};
use crate::device::{Element, Shared};
use crate::error::{Error, Result};
use crate::tensor::{DType, Tensor};
use half::bf16;
use std::alloc::Layout;
use std::cell::RefCell;
use std::marker::PhantomData;

/// Alignment of every buffer, one cache line; and how far past its end a kernel may read.
const LINE: usize = 64;

/// Memory, aligned to 64 bytes, with 64 readable bytes past its end: its own, zeroed at first, or a file's.
#[derive(Debug)]
pub struct Buffer {
    start: *mut u8,
    bytes: usize,            // usable
    of_file: Option<Shared>, // only read
}

// SAFETY: a buffer owns its memory, or a share of it, and hands it out only under the borrow rules.
unsafe impl Send for Buffer {}
unsafe impl Sync for Buffer {}

impl Buffer {
    fn layout(bytes: usize) -> Option<Layout> {
        Layout::from_size_align(bytes.checked_add(LINE)?, LINE).ok()
    }

    /// Zeroed memory of `bytes` bytes.
    pub(super) fn zeroed(bytes: usize) -> Result<Buffer> {
        let start = Self::layout(bytes)
            // SAFETY: the size is not zero.
            .map(|layout| unsafe { std::alloc::alloc_zeroed(layout) })
            .filter(|start| !start.is_null());
        match start {
            Some(start) => Ok(Buffer { start, bytes, of_file: None }),
            None => Err(Error::Device {
                device: "cpu".into(),
                problem: format!("no memory for {bytes} bytes; use a smaller model or image"),
            }),
        }
    }

    /// A copy of `data`.
    pub(super) fn of<T: bytemuck::Pod>(data: &[T]) -> Result<Buffer> {
        let mut buffer = Buffer::zeroed(size_of_val(data))?;
        buffer.bytes_mut().copy_from_slice(bytemuck::cast_slice(data));
        Ok(buffer)
    }

    /// Bytes of a file, where they lie.
    pub(super) fn of_file(shared: Shared) -> Buffer {
        const { assert!(Shared::LINE == LINE) };
        let start = shared.as_ptr().cast_mut(); // never written: `bytes_mut` is for own memory
        Buffer { start, bytes: shared.len(), of_file: Some(shared) }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: allocated, initialised, borrowed with self.
        unsafe { std::slice::from_raw_parts(self.start, self.bytes) }
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        assert!(self.of_file.is_none(), "a file's memory is only read");
        // SAFETY: as above, and exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.bytes) }
    }

    /// The whole buffer as elements.
    pub(super) fn as_slice<T: bytemuck::Pod>(&self) -> &[T] {
        bytemuck::cast_slice(self.bytes())
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let (None, Some(layout)) = (&self.of_file, Self::layout(self.bytes)) {
            // SAFETY: allocated with this layout.
            unsafe { std::alloc::dealloc(self.start, layout) };
        }
    }
}

impl Tensor<Buffer> {
    /// The tensor's elements.
    pub(super) fn slice<T: Element>(&self) -> &[T] {
        debug_assert_eq!(self.dtype(), T::DTYPE);
        bytemuck::cast_slice(&self.buffer.bytes()[..self.bytes()])
    }

    /// The tensor's elements, to be written.
    pub(super) fn slice_mut<T: Element>(&mut self) -> &mut [T] {
        debug_assert_eq!(self.dtype(), T::DTYPE);
        let bytes = self.bytes();
        bytemuck::cast_slice_mut(&mut self.buffer.bytes_mut()[..bytes])
    }

    /// The tensor's elements, to be read as f32 lanes.
    pub(super) fn view(&self) -> View<'_> {
        View { base: self.buffer.start, dtype: self.dtype(), tensor: PhantomData }
    }

    /// The tensor's elements, to be written from f32 lanes by several tasks.
    pub(super) fn view_mut(&mut self) -> ViewMut<'_> {
        ViewMut(View { base: self.buffer.start, dtype: self.dtype(), tensor: PhantomData })
    }
}

/// An f32 or bf16 tensor seen as f32 lanes.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    base: *mut u8,
    dtype: DType,
    tensor: PhantomData<&'a u8>,
}

/// A [`View`] that tasks write disjoint elements of.
#[derive(Clone, Copy)]
pub(super) struct ViewMut<'a>(View<'a>);

// SAFETY: plain memory, borrowed for 'a; the unsafe methods' callers keep writes disjoint.
unsafe impl Send for View<'_> {}
unsafe impl Sync for View<'_> {}

impl<'a> View<'a> {
    /// f32 or bf16 in any memory.
    pub(super) fn of<T: Element>(values: &'a [T]) -> Self {
        let base = values.as_ptr().cast_mut().cast(); // never written: that takes a `ViewMut`
        View { base, dtype: T::DTYPE, tensor: PhantomData }
    }

    /// Elements `index .. index + min(n, 16)`; lanes past `n` are zero.
    ///
    /// # Safety
    /// They lie in the tensor, and no task writes them.
    #[inline(always)]
    pub(super) unsafe fn load<L: Lanes>(self, l: L, index: usize, n: usize) -> L::F32 {
        unsafe {
            match self.dtype {
                DType::BF16 => l.load_bf16_first(self.base.cast::<bf16>().add(index), n),
                _ => l.load_first(self.base.cast::<f32>().add(index), n),
            }
        }
    }
}

impl<'a> ViewMut<'a> {
    /// The same elements, to be read: a residual stream that is updated in place.
    pub(super) fn as_view(self) -> View<'a> {
        self.0
    }

    /// Writes elements `index .. index + min(n, 16)`, rounded to the tensor's dtype.
    ///
    /// # Safety
    /// They lie in the tensor, and no other task uses them.
    #[inline(always)]
    pub(super) unsafe fn store<L: Lanes>(self, l: L, index: usize, n: usize, v: L::F32) {
        unsafe {
            match self.0.dtype {
                DType::BF16 => l.store_bf16_first(self.0.base.cast::<bf16>().add(index), n, v),
                _ => l.store_first(self.0.base.cast::<f32>().add(index), n, v),
            }
        }
    }
}

impl ViewMut<'_> {
    /// Writes bf16 elements `index .. index + min(n, 16)`, and `channels` further on what rounding took from them.
    ///
    /// # Safety
    /// As [`ViewMut::store`], of both.
    #[inline(always)]
    pub(super) unsafe fn store_split<L: Lanes>(
        self,
        l: L,
        index: usize,
        channels: usize,
        n: usize,
        v: L::F32,
    ) {
        unsafe {
            self.store(l, index, n, v);
            let lost = l.sub(v, self.0.load(l, index, n));
            self.store(l, index + channels, n, lost);
        }
    }
}

/// A slice that tasks write disjoint parts of.
#[derive(Clone, Copy)]
pub(super) struct Parts<'a, T> {
    start: *mut T,
    len: usize,
    slice: PhantomData<&'a T>,
}

// SAFETY: an exclusive borrow whose parts are handed out once each.
unsafe impl<T: Send> Send for Parts<'_, T> {}
unsafe impl<T: Send> Sync for Parts<'_, T> {}

impl<'a, T> Parts<'a, T> {
    pub(super) fn new(slice: &'a mut [T]) -> Self {
        Parts { start: slice.as_mut_ptr(), len: slice.len(), slice: PhantomData }
    }

    /// Elements `range`.
    ///
    /// # Safety
    /// No other task uses any of them.
    #[inline(always)]
    #[allow(clippy::mut_from_ref)] // the disjointness is the caller's
    pub(super) unsafe fn part(&self, range: std::ops::Range<usize>) -> &'a mut [T] {
        assert!(range.start <= range.end && range.end <= self.len);
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}

/// f32 scratch of this thread, 64-byte aligned, at least `len` long, contents unspecified. Grows to
/// the largest use and stays, so that a warm device allocates nothing.
pub(super) fn scratch<R>(len: usize, f: impl FnOnce(&mut [f32]) -> R) -> R {
    thread_local! {
        static SCRATCH: RefCell<Vec<[f32; LANES]>> = const { RefCell::new(Vec::new()) };
    }
    SCRATCH.with_borrow_mut(|lines| {
        let needed = (len + 2 * LANES - 1) / LANES;
        if lines.len() < needed {
            lines.resize(needed, [0.0; LANES]);
        }
        let floats = lines.as_flattened_mut();
        let offset = floats.as_ptr().align_offset(LINE);
        f(&mut floats[offset..offset + len])
    })
}

/// [`scratch`] of u64 sort keys.
pub(super) fn key_scratch<R>(f: impl FnOnce(&mut Vec<u64>) -> R) -> R {
    thread_local! {
        static KEYS: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
    }
    KEYS.with_borrow_mut(|keys| {
        keys.clear();
        f(keys)
    })
}

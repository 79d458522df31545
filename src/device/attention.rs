//! What attention is told.

use crate::tensor::Tensor;

/// One operand of attention inside a wider row: columns `offset .. offset + heads*head_dim` of
/// `tensor [batch*rows, stride]`.
pub struct Heads<'a, B> {
    /// Rows of floats.
    pub tensor: &'a Tensor<B>,
    /// First column.
    pub offset: usize,
}

impl<B> Clone for Heads<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<B> Copy for Heads<'_, B> {}

/// Sizes of one attention call; softmax scale is `head_dim^-1/2`.
#[derive(Clone, Copy, Debug)]
pub struct Attention {
    /// Sequences.
    pub batch: usize,
    /// Heads.
    pub heads: usize,
    /// Channels of a head.
    pub head_dim: usize,
    /// Query rows of one sequence.
    pub queries: usize,
    /// Key/value rows reserved for one sequence.
    pub keys: usize,
    /// Key/value rows that exist of each sequence of the first half, and of the second one: the key mask. A
    /// single sequence, and the middle one of an odd number, is of the first half.
    pub lengths: [usize; 2],
    /// Whether query `i` sees only the keys `0..=i`; there are as many queries as keys then.
    pub causal: bool,
    /// Rows from one row of a sequence to its next: 1 where sequences lie one after another; n where the rows
    /// of n sequences take turns, of as many queries as keys then.
    pub step: usize,
    /// The column of out where the first head begins.
    pub column: usize,
}

impl Attention {
    /// `batch` sequences of `[queries, keys]` rows, one after another, without a mask; `[heads, head_dim]` of them.
    pub fn new(batch: usize, [heads, head_dim]: [usize; 2], [queries, keys]: [usize; 2]) -> Self {
        let (lengths, causal, step, column) = ([keys; 2], false, 1, 0);
        Attention { batch, heads, head_dim, queries, keys, lengths, causal, step, column }
    }

    /// Key/value rows of `sequence` that exist.
    pub fn length(&self, sequence: usize) -> usize {
        self.lengths[usize::from(sequence >= self.batch.div_ceil(2))]
    }

    /// The first row of `sequence`, of `rows` rows.
    pub fn first_row(&self, sequence: usize, rows: usize) -> usize {
        sequence / self.step * self.step * rows + sequence % self.step
    }
}

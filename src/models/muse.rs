//! The Muse transformer (arXiv 2301.00704, §2.3 and §2.4). Base and super-res are two
//! configurations of it: super-res has the coarse grid as a further input.
//!
//! One departure from the paper, named `coarse.in_place` in the config: the coarse states are also
//! added to the fine positions they cover, through one projection per sub-position. And `multi_axis`, which
//! the paper has in super-res, is there for either.

use super::MaskedModel;
use super::layers::*;
use crate::config::TransformerConfig;
use crate::device::{Activation, Device, Masked, Norm};
use crate::error::Result;
use crate::ops;
use crate::tensor::{DType, Matrix, Tensor};
use crate::text::stacked as stacked_rows;
use crate::weights::Weights;
use std::mem;

/// Text states of one image: the conditional sequence, then the unconditional or negative one.
pub struct Text<D: Device> {
    /// Float `[batch*longest, text_size]`, each sequence padded to the longest.
    pub states: Tensor<D::Buffer>,
    /// Rows of each sequence that exist.
    pub lengths: [usize; 2],
    /// Sequences: 2 with guidance.
    pub batch: usize,
}

impl<D: Device> Text<D> {
    /// Of a sequence, or of two, float `[rows, text_size]` each.
    pub fn of(device: &D, sequences: &[&Tensor<D::Buffer>]) -> Result<Self> {
        let batch = sequences.len();
        let lengths = [0, batch - 1].map(|i| sequences[i].shape().rows());
        let states = stacked_rows(device, sequences, lengths[0].max(lengths[1]))?;
        Ok(Text { states, lengths, batch })
    }
}

struct Block<D: Device> {
    attention: SelfAttention<D>,
    cross: CrossAttention<D>,
    mlp: Mlp<D>,
}

struct CoarseBlock<D: Device> {
    attention: SelfAttention<D>,
    mlp: Mlp<D>,
}

/// The coarse encoder of super-res.
struct Coarse<D: Device> {
    token_embedding: Tensor<D::Buffer>,    // float [codebook, hidden]
    position_embedding: Tensor<D::Buffer>, // f32 [cells, hidden]
    blocks: Vec<CoarseBlock<D>>,
    final_norm: Norm<D::Buffer>,
    in_place: Matrix<D::Packed>, // [places*hidden, hidden]
    places: usize,               // fine positions of a cell
    cell_of: Vec<u32>,           // [positions]: places*cell + sub-position of each fine position
    cells: usize,
}

/// The order of rows that multi-axis attention works in: block by block of the grid, and its way back.
struct Axes<D: Device> {
    to_blocks: Tensor<D::Buffer>, // u32 [positions]
    back: Tensor<D::Buffer>,      // u32 [positions]
    counts: [usize; 2],           // blocks, and positions of a block
}

/// A Muse transformer on one device.
pub struct Muse<D: Device> {
    width: Width,
    codebook: usize,
    positions: usize,
    axes: Option<Axes<D>>,
    token_embedding: Tensor<D::Buffer>, // float [codebook + 1, hidden]; the last row is [MASK]
    position_embedding: Tensor<D::Buffer>, // f32 [positions, hidden]
    text_projection: Matrix<D::Packed>, // [hidden, text_size]
    blocks: Vec<Block<D>>,
    final_norm: Norm<D::Buffer>,
    head: Matrix<D::Packed>, // [codebook, hidden]
    coarse: Option<Coarse<D>>,
}

impl<D: Device> Muse<D> {
    /// Reads the whole checkpoint; a missing, misshapen or leftover tensor is an error.
    pub fn load(device: &D, mut weights: Weights, config: &TransformerConfig) -> Result<Self> {
        let w = &mut weights;
        let width = Width {
            hidden: config.hidden_size,
            heads: config.num_heads,
            mlp: config.mlp_size,
            epsilon: config.layer_norm_eps,
            dtype: w.activations(),
        };
        let (hidden, codebook) = (width.hidden, config.codebook_size);
        let positions = config.grid[0] * config.grid[1];
        let blocks = (0..config.num_layers)
            .map(|i| {
                let prefix = format!("layers.{i}");
                Ok(Block {
                    attention: SelfAttention::read(device, w, &prefix, width)?,
                    cross: CrossAttention::read(device, w, &prefix, width)?,
                    mlp: Mlp::read(device, w, &prefix, width)?,
                })
            })
            .collect::<Result<_>>()?;
        let model = Muse {
            width,
            codebook,
            positions,
            axes: config
                .multi_axis
                .map(|block| Axes::new(device, config.grid, block))
                .transpose()?,
            token_embedding: w.table(device, "token_embedding.weight", [codebook + 1, hidden])?,
            position_embedding: position_embedding(device, w, "", positions, hidden)?,
            text_projection: linear(
                device,
                w,
                "text_projection",
                [hidden, config.text_size],
                false,
            )?,
            blocks,
            final_norm: norm(device, w, "final_norm", hidden, width.epsilon)?,
            head: linear(device, w, "head", [codebook, hidden], false)?,
            coarse: config
                .coarse
                .as_ref()
                .map(|_| Coarse::read(device, w, config, width))
                .transpose()?,
        };
        weights.finish()?;
        Ok(model)
    }

    /// Positions of the latent grid.
    pub fn positions(&self) -> usize {
        self.positions
    }

    /// The id that stands for a masked token.
    pub fn mask_token(&self) -> u32 {
        self.codebook as u32
    }

    /// Bytes that [`Muse::prepare`] allocates for each image, but for the text's part.
    pub fn bytes_per_image(&self) -> usize {
        let Width { hidden, dtype, .. } = self.width;
        let row = Scratch::<D>::bytes_per_row(self.width) + 4 * (hidden + self.codebook);
        let context = self.coarse.as_ref().map_or(0, |coarse| coarse.cells);
        let context = 2 * dtype.size() * context * hidden * self.blocks.len();
        2 * (self.positions * row + context) + 4 * self.positions * hidden
    }

    /// Computes everything that is constant for `images` images of one text. `coarse_tokens` u32
    /// `[images*cells]` are the finished coarse grids, given to super-res only.
    pub fn prepare<'a>(
        &'a self,
        device: &D,
        text: &Text<D>,
        coarse_tokens: Option<&Tensor<D::Buffer>>,
        images: usize,
    ) -> Result<Prepared<'a, D>> {
        let Width { hidden, dtype, .. } = self.width;
        let batch = text.batch;
        let longest = text.states.shape().rows() / batch;
        let mut projected = device.zeros(dtype, [batch * longest, hidden])?;
        ops::linear(device, &mut projected, &text.states, &self.text_projection, Activation::None)?;

        // Super-res (§2.4): the context is the coarse states, then the text.
        let coarse = match (&self.coarse, coarse_tokens) {
            (Some(coarse), Some(tokens)) => {
                Some(coarse.encode(device, tokens, self.width, images)?)
            }
            _ => None,
        };
        let cells = coarse.as_ref().map_or(0, |states| states.shape().rows() / images);
        // Where it is the text alone, the images have it in common.
        let contexts = if coarse.is_some() { images } else { 1 };
        let keys = cells + longest;
        let mut context = device.zeros(dtype, [batch * contexts * keys, hidden])?;
        for sequence in 0..batch * contexts {
            let (b, image, row) = (sequence / contexts, sequence % contexts, sequence * keys);
            if let Some(states) = &coarse {
                ops::copy_rows(device, &mut context, row, states, image * cells, cells)?;
            }
            let text = b * longest;
            ops::copy_rows(device, &mut context, row + cells, &projected, text, longest)?;
        }
        let lengths = text.lengths.map(|n| cells + n);
        let context = self
            .blocks
            .iter()
            .map(|block| block.cross.context(device, &context, keys, lengths))
            .collect::<Result<_>>()?;

        // What is added to every token embedding: the position and, in super-res, the coarse state.
        let mut fixed = repeated(device, &self.position_embedding, images)?;
        if let (Some(c), Some(states)) = (&self.coarse, &coarse) {
            fixed = c.place(device, states, &fixed, images)?;
        }

        let rows = batch * images * self.positions;
        let mut scratch = Scratch::new(device, rows, self.width)?;
        scratch.axes = self.axes.as_ref().map(|axes| axes.counts);
        Ok(Prepared {
            model: self,
            images,
            context,
            contexts,
            fixed,
            scratch,
            selected: device.zeros(DType::F32, [rows, hidden])?,
            logits: device.zeros(DType::F32, [rows, self.codebook])?,
        })
    }
}

/// A transformer with the constants and buffers of a batch of images.
pub struct Prepared<'a, D: Device> {
    model: &'a Muse<D>,
    images: usize,
    context: Vec<ContextKv<D>>, // one per layer
    contexts: usize,            // of each: one an image, or one for all
    fixed: Tensor<D::Buffer>,   // f32 [images*positions, hidden]
    scratch: Scratch<D>,
    selected: Tensor<D::Buffer>, // f32 [batch*n, hidden]
    logits: Tensor<D::Buffer>,   // f32 [batch*n, codebook]
}

impl<D: Device> MaskedModel<D> for Prepared<'_, D> {
    fn logits(
        &mut self,
        device: &D,
        masked: &Masked<D::Buffer>,
        batch: usize,
    ) -> Result<&mut Tensor<D::Buffer>> {
        let Prepared { model, context, fixed, scratch: s, selected, logits, .. } = self;
        let unknown = batch * masked.positions.shape().elements();
        let (sequences, contexts) = (batch * self.images, [batch, self.contexts]);
        s.set_rows(sequences * model.positions);
        logits.reshape([unknown, model.codebook]);

        ops::embed(device, &mut s.x, &masked.tokens, &model.token_embedding, Some(fixed))?; // [sequences*positions, hidden]
        if let Some(axes) = &model.axes {
            reorder(device, s, selected, &axes.to_blocks)?;
        }
        ops::layer_norm(device, &mut s.normed, &s.x, &model.blocks[0].attention.norm)?; // [sequences*positions, hidden]
        for (i, (block, context)) in model.blocks.iter().zip(context).enumerate() {
            let after = model.blocks.get(i + 1);
            let cross = &block.cross.norm;
            block.attention.forward(device, s, sequences, after.map(|_| cross.into()))?;
            if after.is_none() {
                // From here on no row reads another, and only the masked positions' are asked for.
                if let Some(axes) = &model.axes {
                    reorder(device, s, selected, &axes.back)?;
                }
                selected.reshape([unknown, model.width.hidden]);
                ops::select_rows(device, selected, &s.x, &masked.positions)?; // [batch*n, hidden]
                mem::swap(&mut s.x, selected);
                s.set_rows(unknown);
                ops::layer_norm(device, &mut s.normed, &s.x, cross)?; // [batch*n, hidden]
            }
            block.cross.forward(device, s, context, contexts, Some((&block.mlp.norm).into()))?;
            let next = after.map_or(&model.final_norm, |after| &after.attention.norm);
            block.mlp.forward(device, s, next)?;
        }
        ops::linear(device, logits, &s.normed, &model.head, Activation::None)?; // [batch*n, codebook]
        Ok(logits)
    }
}

impl<D: Device> Axes<D> {
    fn new(device: &D, grid: [usize; 2], block: [usize; 2]) -> Result<Self> {
        let (positions, cells) = (grid[0] * grid[1], block[0] * block[1]);
        let across = grid[1] / block[1];
        let mut to_blocks = vec![0u32; positions];
        let mut back = vec![0u32; positions];
        for (position, row) in back.iter_mut().enumerate() {
            let (y, x) = (position / grid[1], position % grid[1]);
            let of = y / block[0] * across + x / block[1];
            *row = (of * cells + y % block[0] * block[1] + x % block[1]) as u32;
            to_blocks[*row as usize] = position as u32;
        }
        let [to_blocks, back] = [to_blocks, back].map(|order| device.upload(&order, [positions]));
        Ok(Axes { to_blocks: to_blocks?, back: back?, counts: [positions / cells, cells] })
    }
}

/// Takes the rows of every grid in another order, by way of `room`.
fn reorder<D: Device>(
    device: &D,
    s: &mut Scratch<D>,
    room: &mut Tensor<D::Buffer>,
    order: &Tensor<D::Buffer>,
) -> Result<()> {
    room.reshape(*s.x.shape());
    ops::select_rows(device, room, &s.x, order)?;
    mem::swap(&mut s.x, room);
    Ok(())
}

impl<D: Device> Coarse<D> {
    fn read(device: &D, w: &mut Weights, config: &TransformerConfig, width: Width) -> Result<Self> {
        let coarse = config.coarse.as_ref().expect("called for a super-res config");
        let cells = coarse.grid[0] * coarse.grid[1];
        let hidden = width.hidden;
        let blocks = (0..coarse.num_layers)
            .map(|i| {
                let prefix = format!("coarse.layers.{i}");
                Ok(CoarseBlock {
                    attention: SelfAttention::read(device, w, &prefix, width)?,
                    mlp: Mlp::read(device, w, &prefix, width)?,
                })
            })
            .collect::<Result<_>>()?;
        let (places, cell_of) = places(config.grid, coarse.grid);
        let table = "coarse.token_embedding.weight";
        Ok(Coarse {
            token_embedding: w.table(device, table, [coarse.codebook_size, hidden])?,
            position_embedding: position_embedding(device, w, "coarse.", cells, hidden)?,
            blocks,
            final_norm: norm(device, w, "coarse.final_norm", hidden, width.epsilon)?,
            in_place: linear(device, w, "coarse.in_place", [places * hidden, hidden], false)?,
            places,
            cell_of,
            cells,
        })
    }

    /// The norm that block `i` begins with; after the last the final one.
    fn norm_of(&self, i: usize) -> &Norm<D::Buffer> {
        self.blocks.get(i).map_or(&self.final_norm, |block| &block.attention.norm)
    }

    /// Coarse states, float `[images*cells, hidden]`.
    fn encode(
        &self,
        device: &D,
        tokens: &Tensor<D::Buffer>,
        width: Width,
        images: usize,
    ) -> Result<Tensor<D::Buffer>> {
        let mut s = Scratch::new(device, images * self.cells, width)?;
        let positions = repeated(device, &self.position_embedding, images)?;
        ops::embed(device, &mut s.x, tokens, &self.token_embedding, Some(&positions))?;
        ops::layer_norm(device, &mut s.normed, &s.x, self.norm_of(0))?;
        for (i, block) in self.blocks.iter().enumerate() {
            block.attention.forward(device, &mut s, images, Some((&block.mlp.norm).into()))?;
            block.mlp.forward(device, &mut s, self.norm_of(i + 1))?;
        }
        Ok(s.normed)
    }

    /// `positions[p] + in_place_{sub(p)}(states[cell(p)])`, f32 `[images*positions, hidden]` as `positions`: the
    /// projection `[images*cells, places*hidden]` is a table of `places*cells` rows an image, looked up by cell and
    /// sub-position.
    fn place(
        &self,
        device: &D,
        states: &Tensor<D::Buffer>,
        positions: &Tensor<D::Buffer>,
        images: usize,
    ) -> Result<Tensor<D::Buffer>> {
        let hidden = states.shape().last();
        let rows = images * self.cells;
        let mut projected = device.zeros(DType::F32, [rows, self.places * hidden])?;
        ops::linear(device, &mut projected, states, &self.in_place, Activation::None)?;
        projected.reshape([rows * self.places, hidden]);
        let first = |image: usize| (image * self.places * self.cells) as u32;
        let rows: Vec<u32> =
            (0..images).flat_map(|i| self.cell_of.iter().map(move |row| first(i) + row)).collect();
        let rows = device.upload(&rows, [rows.len()])?;
        let mut placed = device.zeros(DType::F32, *positions.shape())?;
        ops::embed(device, &mut placed, &rows, &projected, Some(positions))?;
        Ok(placed)
    }
}

/// How many positions of a fine grid fall on a cell of the coarse one, and for every fine position, row by row, its
/// cell times that, plus its place within the cell.
fn places([height, columns]: [usize; 2], coarse: [usize; 2]) -> (usize, Vec<u32>) {
    let side = columns / coarse[1];
    let place = |p: usize| {
        let (y, x) = (p / columns, p % columns);
        let cell = (y / side) * coarse[1] + x / side;
        (side * side * cell + (y % side) * side + x % side) as u32
    };
    (side * side, (0..height * columns).map(place).collect())
}

fn position_embedding<D: Device>(
    device: &D,
    weights: &mut Weights,
    prefix: &str,
    positions: usize,
    hidden: usize,
) -> Result<Tensor<D::Buffer>> {
    let name = format!("{prefix}position_embedding.weight");
    device.upload(&weights.floats(&name, &[positions, hidden])?, [positions, hidden])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fine_positions_have_a_place_each_in_their_cell() {
        assert_eq!(places([2, 4], [1, 2]), (4, vec![0, 1, 4, 5, 2, 3, 6, 7]));
        // As of the paper's super-res, 64×64 over 16×16.
        let (count, found) = places([8, 16], [2, 4]);
        assert_eq!(count, 16);
        for (p, &place) in found.iter().enumerate() {
            let (y, x) = (p / 16, p % 16);
            assert_eq!(place as usize / 16, y / 4 * 4 + x / 4, "cell of {y}, {x}");
            assert_eq!(place as usize % 16, y % 4 * 4 + x % 4, "place of {y}, {x}");
        }
    }
}

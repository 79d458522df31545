//! What an engine keeps of a negative text: its states, and the half of an image's first step that it alone decides.
//! The grid is nothing but masks there, so that half is the same in every image.
//!
//! Both texts are encoded by themselves, and both halves of that step computed by themselves, also where nothing is
//! kept yet: so an image does not depend on those made before it, whatever a device's products of more or of fewer rows
//! round to.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Family, Run};
use crate::decode::StepPlan;
use crate::device::{Device, Masked};
use crate::error::Result;
use crate::models::MaskedModel;
use crate::ops;
use crate::request::Request;
use crate::tensor::{DType, Tensor};

/// Texts that are kept: the last ones used, with 8 MB of logits each for 256 tokens of 8192 codes.
const KEPT: usize = 4;

/// All that decides about a negative text's states and what a model is told beside them.
#[derive(Clone, Debug, PartialEq)]
struct Conditions {
    negative: String,
    crop: Option<[f32; 2]>,
    aesthetic: Option<f32>,
}

/// A grid, height and width, and what a model makes of its masks: f32 `[cells, codebook]`.
type FirstStep<B> = ([usize; 2], Arc<Tensor<B>>);

/// What an image shows, and what it does not.
pub(super) struct Texts<D: Device, T> {
    pub prompt: T,
    pub negative: Arc<Negative<D, T>>,
}

impl<D: Device, T> Texts<D, T> {
    pub fn both(&self) -> [&T; 2] {
        [&self.prompt, &self.negative.text]
    }
}

/// A negative text.
pub(super) struct Negative<D: Device, T> {
    of: Conditions,
    text: T,
    /// Of the grid that was asked for last.
    first_step: Mutex<Option<FirstStep<D::Buffer>>>,
}

/// The negative texts that are kept.
pub(super) struct Negatives<D: Device, T> {
    /// The one used last is the last.
    kept: Mutex<VecDeque<Arc<Negative<D, T>>>>,
}

impl<D: Device, T> Negatives<D, T> {
    pub fn new() -> Self {
        Negatives { kept: Mutex::default() }
    }

    pub fn forget(&self) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The negative text of a request, or what `encode` makes of it.
    pub fn of(
        &self,
        request: &Request,
        encode: impl FnOnce() -> Result<T>,
    ) -> Result<Arc<Negative<D, T>>> {
        let Request { negative, crop, aesthetic, .. } = request;
        let of = Conditions { negative: negative.clone(), crop: *crop, aesthetic: *aesthetic };
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let negative = match kept.iter().position(|negative| negative.of == of) {
            Some(index) => kept.remove(index).expect("it was found"),
            None => Arc::new(Negative { of, text: encode()?, first_step: Mutex::default() }),
        };
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(Arc::clone(&negative));
        Ok(negative)
    }
}

impl<D: Device, F: Family<D>> Run<'_, D, F> {
    /// The unconditional logits that decoding `tokens` of the first stage begins with: `None` where they depend on more
    /// than the negative text, and without guidance.
    pub(super) fn first_step(
        &self,
        tokens: &[u32],
        grid: [usize; 2],
        plan: &[StepPlan],
    ) -> Result<Option<Arc<Tensor<D::Buffer>>>> {
        let (device, mask_token) = (self.device, self.levels[0].mask_token);
        let guided = plan.iter().find(|step| step.settles()).is_some_and(|s| s.batch() == 2);
        if !guided || tokens.iter().any(|&token| token != mask_token) {
            return Ok(None);
        }
        let Negative { text, first_step, .. } = &*self.texts.negative;
        let mut first_step = first_step.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, logits)) = first_step.as_ref().filter(|(of, _)| *of == grid) {
            return Ok(Some(Arc::clone(logits)));
        }
        let texts = [text];
        let mut model = self.family.prepare(device, 0, grid, &texts, None, 1)?;
        let cells = grid[0] * grid[1];
        let masked = Masked::new(device, &tokens[..cells], mask_token)?;
        let logits = model.logits(device, &masked, 1)?;
        let mut kept = device.zeros(DType::F32, *logits.shape())?;
        ops::copy_rows(device, &mut kept, 0, logits, 0, cells)?;
        let kept = Arc::new(kept);
        *first_step = Some((grid, Arc::clone(&kept)));
        Ok(Some(kept))
    }
}

/// A model of whose first guided logits the unconditional half may be known.
pub(super) struct Begun<D: Device, M> {
    pub model: M,
    /// f32 `[cells, codebook]`: the same for every image.
    pub unconditional: Option<Arc<Tensor<D::Buffer>>>,
    /// Whether it has given logits.
    pub begun: bool,
}

impl<D: Device, M: MaskedModel<D>> MaskedModel<D> for Begun<D, M> {
    fn logits(
        &mut self,
        device: &D,
        masked: &Masked<D::Buffer>,
        batch: usize,
    ) -> Result<&mut Tensor<D::Buffer>> {
        let first = !std::mem::replace(&mut self.begun, true);
        let Some(unconditional) = self.unconditional.as_ref().filter(|_| first) else {
            return self.model.logits(device, masked, batch);
        };
        let logits = self.model.logits(device, masked, 1)?; // [images*cells, codebook]
        let (rows, cells) = (logits.shape().rows(), unconditional.shape().rows());
        logits.reshape([batch * rows, logits.shape().last()]);
        for row in (rows..batch * rows).step_by(cells) {
            ops::copy_rows(device, logits, row, unconditional, 0, cells)?;
        }
        Ok(logits) // [2*images*cells, codebook]
    }
}

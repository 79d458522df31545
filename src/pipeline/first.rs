//! The first step of an image, whose grid is nothing but masks: what the model makes of it by the negative text alone
//! is the same in every image, so it is computed once and kept.
//!
//! Both halves of that step are computed by themselves, also when the other one is not known yet: so an image does not
//! depend on those made before it, whatever a device's products of more or of fewer rows round to.

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

/// Logits that are kept: the last ones used, 8 MB each for 256 tokens of 8192 codes.
const KEPT: usize = 4;

/// All that the unconditional half of a first step depends on.
#[derive(Clone, Debug, PartialEq)]
struct Conditions {
    negative: String,
    grid: [usize; 2],
    crop: Option<[f32; 2]>,
    aesthetic: Option<f32>,
}

/// Unconditional logits of first steps, f32 `[cells, codebook]`, by what they depend on.
pub(super) struct FirstSteps<D: Device> {
    /// The one used last is the last.
    kept: Mutex<VecDeque<(Conditions, Arc<Tensor<D::Buffer>>)>>,
}

impl<D: Device> FirstSteps<D> {
    pub fn new() -> Self {
        FirstSteps { kept: Mutex::default() }
    }

    pub fn forget(&self) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn get_or(
        &self,
        conditions: Conditions,
        compute: impl FnOnce() -> Result<Tensor<D::Buffer>>,
    ) -> Result<Arc<Tensor<D::Buffer>>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let logits = match kept.iter().position(|(of, _)| *of == conditions) {
            Some(index) => kept.remove(index).expect("it was found").1,
            None => Arc::new(compute()?),
        };
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back((conditions, Arc::clone(&logits)));
        Ok(logits)
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
        let (device, level) = (self.device, &self.levels[0]);
        let guided = plan.iter().find(|step| step.settles()).is_some_and(|s| s.batch() == 2);
        let Request { negative, crop, aesthetic, toward, .. } = self.request;
        let masks = tokens.iter().all(|&token| token == level.mask_token);
        if !guided || !masks || toward.is_some() {
            return Ok(None);
        }
        let (negative, crop, aesthetic) = (negative.clone(), *crop, *aesthetic);
        let compute = || {
            let text = self.family.negative(device, &self.text)?;
            let mut model = self.family.prepare(device, 0, grid, &text, None, 1)?;
            let cells = &tokens[..grid[0] * grid[1]];
            let masked = Masked::new(device, cells, level.mask_token)?;
            let logits = model.logits(device, &masked, 1)?;
            let mut kept = device.zeros(DType::F32, *logits.shape())?;
            ops::copy_rows(device, &mut kept, 0, logits, 0, cells.len())?;
            Ok(kept)
        };
        let conditions = Conditions { negative, grid, crop, aesthetic };
        self.first_steps.get_or(conditions, compute).map(Some)
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

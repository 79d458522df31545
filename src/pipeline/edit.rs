//! Edits: the grids they begin with, and the pictures they end with (what they are: [`crate::edit`]).

use std::cell::RefCell;

use super::{Family, Finished, Level, Run};
use crate::decode::{OnStep, Step, StepPlan, decode, drawn, halton};
use crate::device::{Device, Masked};
use crate::edit::{Canvas, Change, Edit, Margins, refined};
use crate::error::{Error, Result};
use crate::image::{Image, Mask, Rectangle};
use crate::models::MaskedModel;
use crate::rng::NoiseKey;

/// An image in a model's tokens.
pub(super) struct Source {
    /// The part of the image that they are of.
    part: Rectangle,
    /// The tokens of every stage; those of an outpainted image within their canvas, masked elsewhere.
    tokens: Vec<Vec<u32>>,
    /// Of an outpainted image.
    canvas: Option<Canvas>,
}

impl Source {
    /// The result of an edit, from the picture of its tokens.
    pub fn compose(&self, edit: &Edit, picture: Image) -> Image {
        match &edit.change {
            Change::Inpaint { mask, .. } if !edit.decoded => {
                let mut new = edit.image.clone();
                let Rectangle { x, y, width, height } = self.part;
                new.place(&picture.resized(width, height), x, y);
                edit.image.repainted(&new, mask, edit.feather)
            }
            Change::Outpaint { margins, .. } => {
                let canvas = self.canvas.as_ref().expect("an outpainted image has one");
                let new = picture.cropped(canvas.crop);
                if edit.decoded {
                    return new;
                }
                let mut old = new.clone();
                old.place(&edit.image, margins.left, margins.top);
                old.repainted(&new, &added(*margins, &edit.image), edit.feather)
            }
            _ => picture,
        }
    }
}

/// The pixels around an image.
fn added(margins: Margins, image: &Image) -> Mask {
    let Margins { left, right, top, bottom } = margins;
    let (width, height) = (left + image.width + right, top + image.height + bottom);
    let outside = |at: usize| {
        let (x, y) = (at % width, at / width);
        !(left..left + image.width).contains(&x) || !(top..top + image.height).contains(&y)
    };
    Mask { width, height, repaint: (0..width * height).map(outside).collect() }
}

impl<D: Device, F: Family<D>> Run<'_, D, F> {
    /// The image of an edit as tokens of every stage.
    pub(super) fn encode(&self, edit: &Edit) -> Result<Source> {
        match &edit.change {
            Change::Outpaint { margins, .. } => self.encode_within(&edit.image, *margins),
            Change::Inpaint { mask, .. } => {
                let source = self.encode_part(edit)?;
                if mask.count() > mask.cropped(source.part).count() {
                    let found = "one that reaches beyond the part of the image that the model sees";
                    let expected = format!("a mask within {}, or the fit 'stretch'", source.part);
                    return Err(Error::option("mask", found, expected));
                }
                Ok(source)
            }
            Change::Repaint { .. } | Change::Resample { .. } => self.encode_part(edit),
        }
    }

    /// The part of an image that has the model's shape.
    fn encode_part(&self, edit: &Edit) -> Result<Source> {
        let part = edit.fit.part(edit.image.width, edit.image.height, self.finest().side());
        let seen = edit.image.cropped(part);
        let encode = |level: &Level<D>| {
            let [height, width] = level.side();
            level.encode(self.device, &seen.resized(width, height))
        };
        let tokens = self.levels.iter().map(encode).collect::<Result<_>>()?;
        Ok(Source { part, tokens, canvas: None })
    }

    /// An image within its canvas, pixel for pixel.
    fn encode_within(&self, image: &Image, margins: Margins) -> Result<Source> {
        let grid = self.levels[0].grid;
        let unit = self.finest().side()[1] / grid[1];
        let canvas = Canvas::new([image.width, image.height], margins, grid, unit)?;
        let known = canvas.known.scaled(unit);
        let part = Rectangle { x: 0, y: 0, ..known };
        let seen = image.cropped(part);
        let encode = |level: &Level<D>| {
            let (scale, factor) = (level.grid[1] / grid[1], level.vq.grid_factor());
            let known = canvas.known.scaled(scale);
            let seen = seen.resized(known.width * factor, known.height * factor);
            let [rows, columns] = canvas.grid.map(|n| n * scale);
            let mut tokens = vec![level.mask_token; rows * columns];
            known.write(&mut tokens, columns, &level.encode(self.device, &seen)?);
            Ok(tokens)
        };
        let tokens = self.levels.iter().map(encode).collect::<Result<_>>()?;
        Ok(Source { part, tokens, canvas: Some(canvas) })
    }

    fn finest(&self) -> &Level<D> {
        &self.levels[self.levels.len() - 1]
    }

    /// Decodes an edit.
    pub(super) fn edit(
        &self,
        edit: &Edit,
        source: &Source,
        on_step: &mut Option<&mut OnStep<'_>>,
    ) -> Result<Vec<Finished<D>>> {
        let grid = self.levels[0].grid;
        match &edit.change {
            Change::Inpaint { mask, strength } => {
                let [height, width] = self.finest().side();
                let mask = mask.cropped(source.part).resized(width, height);
                let marked = |level: &Level<D>, _| self.family.marked(&mask, level.grid);
                self.stages(&self.without(source, marked), self.first(*strength), on_step)
            }
            Change::Repaint { strength } => {
                let (steps, first) = (self.options(0).steps, self.first(*strength));
                let noise = NoiseKey { seed: self.request.seed, stage: 0, step: 0 };
                let mut forgotten = vec![vec![false; grid[0] * grid[1]]; self.images];
                for (image, forgotten) in forgotten.iter_mut().enumerate() {
                    let mut torch = self.torch.as_ref().map(RefCell::borrow_mut);
                    let (torch, noise) = (torch.as_deref_mut(), noise.of_image(image));
                    let cells = self.family.forget(forgotten.len(), first, steps, noise, torch);
                    cells.into_iter().for_each(|cell| forgotten[cell] = true);
                }
                let marked =
                    |level: &Level<D>, image: usize| refined(&forgotten[image], grid, level.grid);
                self.stages(&self.without(source, marked), first, on_step)
            }
            Change::Resample { iterations, fraction, preserve } => {
                let count = (fraction * source.tokens[0].len() as f32).round().max(1.0) as usize;
                self.resample(source, [*iterations, count], *preserve, on_step)
            }
            Change::Outpaint { overlap, .. } => {
                self.outpaint(source, overlap.unwrap_or(grid[0].min(grid[1]) / 2), on_step)
            }
        }
    }

    /// The step from which a part of all steps runs.
    fn first(&self, strength: f32) -> usize {
        let steps = self.options(0).steps;
        // The margin keeps an exact product from falling below its integer.
        steps - (steps as f64 * f64::from(strength) + 1e-6).floor() as usize
    }

    /// The source's tokens for every image, masked where they are marked for it.
    fn without(
        &self,
        source: &Source,
        marked: impl Fn(&Level<D>, usize) -> Vec<bool>,
    ) -> Vec<Vec<u32>> {
        let masked = |(level, tokens): (&Level<D>, &Vec<u32>)| {
            let token = |(&token, marked)| if marked { level.mask_token } else { token };
            let of_image = |image| tokens.iter().zip(marked(level, image)).map(token);
            (0..self.images).flat_map(of_image).collect()
        };
        self.levels.iter().zip(&source.tokens).map(masked).collect()
    }

    /// Draws `count` tokens of the coarse grid anew, again and again, then all of the fine one.
    fn resample(
        &self,
        source: &Source,
        [rounds, count]: [usize; 2],
        preserve: f32,
        on_step: &mut Option<&mut OnStep<'_>>,
    ) -> Result<Vec<Finished<D>>> {
        let device = self.device;
        let (stage, options) = (self.stage(0, 0), self.options(0));
        let texts = self.texts.both();
        let prepare = |images| self.family.prepare(device, 0, stage.grid, &texts, None, images);
        let before = &source.tokens[0];
        let log_weights = match preserve {
            0.0 => vec![0.0; before.len()],
            _ => {
                let doubts = self.doubts(&mut prepare(1)?, before, count)?;
                doubts.iter().map(|doubt| doubt * preserve).collect()
            }
        };
        let mut model = prepare(self.images)?;
        let mut tokens = before.repeat(self.images);
        let plan = |round| StepPlan {
            number: round as u16,
            masked: count,
            remaining: 0,
            guidance: options.guidance,
            noise: 0.0,
            token_temperature: options.token_temperature,
            top_k: self.request.base.top_k.unwrap_or(Change::TOP_K),
        };
        let mut times = Vec::new();
        for round in 0..rounds {
            let noise = NoiseKey { seed: stage.seed, stage: stage.index, step: round as u16 };
            for (image, tokens) in tokens.chunks_mut(before.len()).enumerate() {
                for cell in drawn(&log_weights, count, noise.of_image(image)) {
                    tokens[cell] = stage.mask_token;
                }
            }
            let mut masked = Masked::of_images(device, &tokens, stage.mask_token, self.images)?;
            let mut seen = on_step.as_deref_mut().map(|on_step| {
                move |step: Step<'_>| on_step(Step { step: round, steps: rounds, ..step })
            });
            let seen = seen.as_mut().map(|seen| seen as &mut OnStep<'_>);
            times.extend(decode(device, &mut model, &mut masked, &[plan(round)], stage, seen)?);
            tokens = device.download(&masked.tokens)?;
        }
        let mut grids = self.masked();
        grids[0] = tokens;
        let mut stages = self.stages(&grids, 0, on_step)?;
        stages[0].steps = times;
        Ok(stages)
    }

    /// For every token of the coarse grid, how much likelier it would be without the prompt than with it,
    /// `ln p(token) − ln p(token | prompt)`, seen all the others but for those of its group, `count` tokens
    /// spread over the grid.
    fn doubts(
        &self,
        model: &mut impl MaskedModel<D>,
        tokens: &[u32],
        count: usize,
    ) -> Result<Vec<f32>> {
        let (device, mask_token) = (self.device, self.levels[0].mask_token);
        let mut doubts = vec![0.0; tokens.len()];
        for group in halton(self.levels[0].grid).chunks(count) {
            let mut hidden = tokens.to_vec();
            group.iter().for_each(|&cell| hidden[cell] = mask_token);
            let masked = Masked::new(device, &hidden, mask_token)?;
            let positions: Vec<u32> = device.download(&masked.positions)?;
            let logits = model.logits(device, &masked, 2)?;
            let codes = logits.shape().last();
            let logits: Vec<f32> = device.download(logits)?; // [2*n, codebook]
            let (with, without) = logits.split_at(logits.len() / 2);
            for (i, position) in positions.into_iter().map(|p| p as usize).enumerate() {
                let row = i * codes..(i + 1) * codes;
                let ln_p = |logits: &[f32]| ln_probability(&logits[row.clone()], tokens[position]);
                doubts[position] = (ln_p(without) - ln_p(with)) as f32;
            }
        }
        Ok(doubts)
    }

    /// Fills what is masked of a canvas, a window after the other, stage by stage.
    fn outpaint(
        &self,
        source: &Source,
        overlap: usize,
        on_step: &mut Option<&mut OnStep<'_>>,
    ) -> Result<Vec<Finished<D>>> {
        let (device, base) = (self.device, &self.levels[0]);
        let canvas = source.canvas.as_ref().expect("an outpainted image has one");
        let windows = canvas.windows(base.grid, overlap)?;
        let mut stages = Vec::new();
        let mut coarse: Option<(Vec<Vec<u32>>, usize)> = None; // the finished coarse canvases and their columns
        let read = |at: Rectangle, canvases: &[Vec<u32>], columns: usize| -> Vec<u32> {
            canvases.iter().flat_map(|tokens| at.read(tokens, columns)).collect()
        };
        for (index, level) in self.levels.iter().enumerate() {
            let scale = level.grid[1] / base.grid[1];
            let grid = canvas.grid.map(|n| n * scale);
            let mut canvases = vec![source.tokens[index].clone(); self.images];
            let mut times = Vec::new();
            for (number, &at) in windows.iter().enumerate() {
                let window = at.scaled(scale);
                let part = read(window, &canvases, grid[1]);
                let coarse = match &coarse {
                    Some((canvases, columns)) => {
                        let part = read(at, canvases, *columns);
                        Some(device.upload(&part, [part.len()])?)
                    }
                    None => None,
                };
                let mut all = canvases.clone();
                let mut compared = vec![f32::NAN; grid[0] * grid[1]];
                let mut seen = on_step.as_deref_mut().map(|on_step| {
                    |step: Step<'_>| {
                        let canvas = &mut all[step.image];
                        window.write(canvas, grid[1], step.tokens);
                        window.write(&mut compared, grid[1], step.confidence);
                        let (tokens, confidence, windows) =
                            (&canvas[..], &compared[..], windows.len());
                        on_step(Step { window: number, windows, grid, tokens, confidence, ..step })
                    }
                });
                let seen = seen.as_mut().map(|seen| seen as &mut OnStep<'_>);
                let (part, took) = self.fill([index, number], &part, coarse.as_ref(), 0, seen)?;
                let parts: Vec<u32> = device.download(&part)?;
                let parts = parts.chunks(parts.len() / self.images);
                for (canvas, part) in canvases.iter_mut().zip(parts) {
                    window.write(canvas, grid[1], part);
                }
                times.extend(took);
            }
            let finished = canvases.concat();
            let finished = device.upload(&finished, [finished.len()])?;
            stages.push(Finished { tokens: finished, grid, steps: times, end: device.mark()? });
            coarse = Some((canvases, grid[1]));
        }
        Ok(stages)
    }
}

fn ln_probability(logits: &[f32], token: u32) -> f64 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&logit| f64::from(logit - largest).exp()).sum();
    f64::from(logits[token as usize] - largest) - sum.ln()
}

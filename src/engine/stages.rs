//! A pipeline as the engine sees it, whatever its device and its family.

use std::path::{Path, PathBuf};

use crate::amused::Amused;
use crate::decode::{OnStep, Step};
use crate::device::Device;
use crate::error::Result;
use crate::hub;
use crate::image::Image;
use crate::muse::Parts;
use crate::pipeline::{Family, Generated, Pipeline, Probe};
use crate::request::{Embeddings, Request, Size};
use crate::shape::{Drawn, Shape};
use crate::trace::{Event, Traced};
use crate::weights::Reading;

/// What an engine asks of its pipeline, on whichever device.
pub(super) trait Stages: Send + Sync {
    fn batch(&self, request: &Request, count: usize) -> Result<usize>;
    fn generate(
        &self,
        request: &Request,
        images: usize,
        on_step: Option<&mut OnStep<'_>>,
    ) -> Result<Vec<Generated>>;
    fn preview(&self, step: &Step<'_>) -> Result<Image>;
    fn probe(&self, request: &Request) -> Result<Probe>;
    fn encode(&self, image: &Image, size: Size) -> Result<Vec<u32>>;
    fn decode(&self, tokens: &[u32], size: Size) -> Result<Image>;
    fn embed(&self, text: &str) -> Result<Embeddings>;
    fn name(&self) -> &str;
    fn stages(&self) -> Vec<&'static str>;
    fn files(&self) -> &[(String, PathBuf)];
    fn device(&self) -> String;
    fn forget(&self);
    fn start_trace(&self, hashes: bool);
    fn stop_trace(&self) -> Vec<Event>;
}

impl<D: Device, F: Family<Traced<D>>> Stages for Pipeline<Traced<D>, F> {
    fn batch(&self, request: &Request, count: usize) -> Result<usize> {
        Pipeline::batch(self, request, count)
    }

    fn generate(
        &self,
        request: &Request,
        images: usize,
        on_step: Option<&mut OnStep<'_>>,
    ) -> Result<Vec<Generated>> {
        Pipeline::generate(self, request, images, on_step)
    }

    fn preview(&self, step: &Step<'_>) -> Result<Image> {
        Pipeline::preview(self, step)
    }

    fn probe(&self, request: &Request) -> Result<Probe> {
        Pipeline::probe(self, request)
    }

    fn encode(&self, image: &Image, size: Size) -> Result<Vec<u32>> {
        self.encode_image(image, size)
    }

    fn decode(&self, tokens: &[u32], size: Size) -> Result<Image> {
        self.decode_tokens(tokens, size)
    }

    fn embed(&self, text: &str) -> Result<Embeddings> {
        Pipeline::embed(self, text)
    }

    fn name(&self) -> &str {
        self.family.name()
    }

    fn stages(&self) -> Vec<&'static str> {
        self.family.levels().iter().map(|level| level.name).collect()
    }

    fn files(&self) -> &[(String, PathBuf)] {
        self.family.files()
    }

    fn device(&self) -> String {
        self.device.describe()
    }

    fn forget(&self) {
        Pipeline::forget(self);
    }

    fn start_trace(&self, hashes: bool) {
        self.device.start(hashes);
    }

    fn stop_trace(&self) -> Vec<Event> {
        self.device.stop()
    }
}

/// Where a model comes from.
pub(super) enum Source<'a> {
    Folder(&'a Path),
    Shape(&'a Shape),
}

/// The model's pipeline; a directory's files say of which family it is.
pub(super) fn stages<D: Device + 'static>(
    device: D,
    source: Source<'_>,
    reading: &Reading,
) -> Result<Box<dyn Stages>> {
    let device = Traced::new(device);
    Ok(match source {
        Source::Shape(shape) => {
            let family = Drawn::new(&device, shape, reading.precision)?;
            Box::new(Pipeline::new(device, family))
        }
        Source::Folder(path) if hub::is_folder(path) => {
            Box::new(Pipeline::<_, Amused<_>>::load(device, path, reading)?)
        }
        Source::Folder(path) => Box::new(Pipeline::<_, Parts<_>>::load(device, path, reading)?),
    })
}

//! GIF: the frames of a decode, repeated for ever.

use gif::{Encoder, EncodingError, Frame, Repeat};

use super::Image;
use crate::error::{Error, Result};

/// Of the palette search, from 1 (slow) to 30; ten loses little.
const SPEED: i32 = 10;

/// A GIF animation being written to memory.
pub struct Animation {
    encoder: Encoder<Vec<u8>>,
    width: u16,
    height: u16,
}

impl Animation {
    /// Starts an animation whose frames all have this size.
    pub fn new(width: usize, height: usize) -> Result<Self> {
        let side = |n: usize| u16::try_from(n).ok().filter(|&n| n > 0);
        let Some((width, height)) = side(width).zip(side(height)) else {
            let found = format!("{width}×{height}");
            return Err(Error::option("animation", found, "sides from 1 to 65535 pixels"));
        };
        let mut encoder = Encoder::new(Vec::new(), width, height, &[]).map_err(failed)?;
        encoder.set_repeat(Repeat::Infinite).map_err(failed)?;
        Ok(Animation { encoder, width, height })
    }

    /// Adds a frame, shown for `milliseconds` (to the hundredth of a second).
    pub fn push(&mut self, image: &Image, milliseconds: u32) -> Result<()> {
        image.check()?;
        let sides = [self.width, self.height];
        if [image.width, image.height] != sides.map(usize::from) {
            let found = format!("{}×{}", image.width, image.height);
            let expected = format!("the animation's {}×{} pixels", self.width, self.height);
            return Err(Error::option("animation frame", found, expected));
        }
        let mut frame = Frame::from_rgb_speed(self.width, self.height, &image.rgb, SPEED);
        frame.delay = u16::try_from(milliseconds / 10).unwrap_or(u16::MAX);
        self.encoder.write_frame(&frame).map_err(failed)
    }

    /// The GIF file.
    pub fn finish(self) -> Result<Vec<u8>> {
        self.encoder.into_inner().map_err(failed)
    }
}

fn failed(error: EncodingError) -> Error {
    Error::option("animation", error, "frames that a GIF file can hold")
}

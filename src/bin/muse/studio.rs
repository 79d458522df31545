//! `muse studio`: a page on this machine that shows the engine at work.

#[cfg(feature = "studio")]
mod guard;
#[cfg(feature = "studio")]
mod job;
#[cfg(feature = "studio")]
mod line;
#[cfg(feature = "studio")]
mod listen;
#[cfg(feature = "studio")]
mod server;

#[cfg(feature = "studio")]
pub use listen::run;

#[cfg(not(feature = "studio"))]
pub fn run(_: crate::options::StudioArgs) -> muse::Result<()> {
    let found = "a muse that was built without it".into();
    let expected = "one that was built with `--features studio`".into();
    Err(muse::Error::Option { name: "studio", found, expected })
}

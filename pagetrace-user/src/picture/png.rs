//! Pictures as PNG.
//!
//! All text is drawn with one font, which is part of the program: a picture is the same on every machine, and one without
//! fonts has labels too. Letters that it does not have are drawn as boxes.
//!
//! *Source.* `fonts/DejaVuSansMono.ttf` is DejaVu Sans Mono 2.37 (`fonts/LICENSE-DejaVu`), cut down to Latin, Greek,
//! Cyrillic, punctuation, arrows, mathematical and box-drawing letters.
//!
//! *Bound.* [`MOST_PIXELS`]: what would be larger is drawn smaller.

use std::sync::Arc;

use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{Options, Tree};

const FONT: &[u8] = include_bytes!("../../fonts/DejaVuSansMono.ttf");
const FAMILY: &str = "DejaVu Sans Mono";
/// Pixels of a unit of the drawing: sharp on screens of high resolution.
const SCALE: f32 = 2.0;
/// 256 MiB while it is drawn.
const MOST_PIXELS: f32 = (1_u32 << 26) as f32;

/// Why a drawing cannot become a picture.
#[derive(Debug, thiserror::Error)]
pub enum PictureError {
    #[error("the drawing is not understood: {0}")]
    Drawing(#[from] resvg::usvg::Error),
    #[error("a picture of {0} by {1} is too large")]
    Size(f32, f32),
    #[error("the picture cannot be encoded: {0}")]
    Encoding(String),
}

/// The picture of a drawing (SVG).
///
/// # Errors
/// When the drawing is no SVG, or has no size.
pub fn png(svg: &str) -> Result<Vec<u8>, PictureError> {
    let mut options = Options { font_family: FAMILY.to_owned(), ..Options::default() };
    let fonts = Arc::make_mut(&mut options.fontdb);
    fonts.load_font_data(FONT.to_vec());
    // A drawing says what its text would best look like; here it looks the same whatever that is.
    fonts.set_serif_family(FAMILY);
    fonts.set_sans_serif_family(FAMILY);
    fonts.set_monospace_family(FAMILY);
    let tree = Tree::from_str(svg, &options)?;
    let (width, height) = (tree.size().width(), tree.size().height());
    let scale = SCALE.min((MOST_PIXELS / (width * height)).sqrt());
    // Beyond what fits they stay as they are.
    let pixels = |length: f32| (length * scale).floor().max(1.0) as u32;
    let mut pixmap = Pixmap::new(pixels(width), pixels(height)).ok_or(PictureError::Size(width, height))?;
    resvg::render(&tree, Transform::from_scale(scale, scale), &mut pixmap.as_mut());
    pixmap.encode_png().map_err(|error| PictureError::Encoding(error.to_string()))
}

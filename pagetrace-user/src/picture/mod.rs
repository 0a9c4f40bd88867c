//! Pictures: their forms, and text of the traced machine that is safe to look at.

mod png;

use std::path::Path;

pub use png::{PictureError, png};

/// What a picture is written as, which its name's extension says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Svg,
    Png,
}

impl Form {
    /// Every form with its extension.
    pub const ALL: [(&str, Form); 2] = [("svg", Form::Svg), ("png", Form::Png)];

    /// The form of a file of this name; `None` where no form has its extension.
    #[must_use]
    pub fn of(path: &Path) -> Option<Form> {
        let extension = path.extension()?;
        Form::ALL.iter().find(|(known, _)| extension == *known).map(|(_, form)| *form)
    }

    /// A drawing in this form.
    ///
    /// # Errors
    /// When the drawing is no SVG, or has no size.
    pub fn written(self, svg: String) -> Result<Vec<u8>, PictureError> {
        match self {
            Form::Svg => Ok(svg.into_bytes()),
            Form::Png => png(&svg),
        }
    }
}

/// Letters that are not seen, turn the direction of others, or may not stand in XML.
const HIDDEN: [std::ops::RangeInclusive<char>; 10] = [
    '\u{ad}'..='\u{ad}',
    '\u{61c}'..='\u{61c}',
    '\u{180e}'..='\u{180e}',
    '\u{200b}'..='\u{200f}',
    '\u{2028}'..='\u{202e}',
    '\u{2060}'..='\u{206f}',
    '\u{feff}'..='\u{feff}',
    '\u{fff9}'..='\u{fffb}',
    '\u{fffe}'..='\u{ffff}',
    '\u{e0000}'..='\u{e007f}',
];

/// The text, where what is hidden, or controls, becomes an escape.
#[must_use]
pub fn shown(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_control() || HIDDEN.iter().any(|hidden| hidden.contains(&letter)) {
            safe.extend(letter.escape_default());
        } else {
            safe.push(letter);
        }
    }
    safe
}

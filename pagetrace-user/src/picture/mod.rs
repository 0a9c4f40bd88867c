//! What pictures and pages have in common: text of the traced machine that is safe to look at.

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

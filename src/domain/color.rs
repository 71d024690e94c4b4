//! Colors of brands, and whether they can be read.

use std::fmt;

/// A color of sRGB, as pages have it: `#rrggbb`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Color([u8; 3]);

// === impl Color ===

impl Color {
    pub const BLACK: Color = Color([0; 3]);
    pub const WHITE: Color = Color([255; 3]);

    /// `#rrggbb`, in any case.
    pub fn parse(text: &str) -> Option<Color> {
        let digits = text.strip_prefix('#').filter(|digits| digits.len() == 6 && digits.is_ascii())?;
        let part = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).ok();
        digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then_some(())?;
        Some(Color([part(0)?, part(2)?, part(4)?]))
    }

    /// Between this and another one, from 1 (the same) to 21 (black and white), as WCAG 2.2 defines it.
    pub fn contrast(self, other: Color) -> f64 {
        let (one, other) = (self.luminance(), other.luminance());
        (one.max(other) + 0.05) / (one.min(other) + 0.05)
    }

    /// Black or white: whichever can be read better on it.
    pub fn ink(self) -> Color {
        let is_dark = self.contrast(Color::WHITE) >= self.contrast(Color::BLACK);
        if is_dark { Color::WHITE } else { Color::BLACK }
    }

    fn luminance(self) -> f64 {
        let linear = |part: u8| {
            let share = f64::from(part) / 255.0;
            if share <= 0.04045 { share / 12.92 } else { ((share + 0.055) / 1.055).powf(2.4) }
        };
        let [red, green, blue] = self.0.map(linear);
        0.2126 * red + 0.7152 * green + 0.0722 * blue
    }
}

impl fmt::Display for Color {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [red, green, blue] = self.0;
        write!(f, "#{red:02x}{green:02x}{blue:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::Color;

    #[test]
    fn contrasts_are_those_of_the_guidelines() {
        let color = |text: &str| Color::parse(text).unwrap();
        assert!((Color::BLACK.contrast(Color::WHITE) - 21.0).abs() < 1e-9);
        assert!((color("#777777").contrast(Color::WHITE) - 4.48).abs() < 0.01);
        assert_eq!((color("#0a3d91").ink(), color("#ffe100").ink()), (Color::WHITE, Color::BLACK));
    }

    #[test]
    fn a_color_has_six_digits() {
        assert_eq!(Color::parse("#0A7Cff").map(|color| color.to_string()).as_deref(), Some("#0a7cff"));
        for bad in ["", "#", "0a7cff", "#0a7cf", "#0a7cfff", "#+a7cff", "#0a7cf\u{e9}"] {
            assert_eq!(Color::parse(bad), None, "{bad}");
        }
    }
}

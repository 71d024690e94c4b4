//! A text as a QR code, for a person's device to photograph: the path of an inline SVG, so that no policy is in its way.

use std::fmt::Write as _;

use qrcodegen::{QrCode, QrCodeEcc};

/// What an SVG draws.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct QrPath {
    /// Of each side, in modules, with the margin that readers need.
    pub(super) size: i32,
    /// The dark modules.
    pub(super) path: String,
}

/// Modules of light around it (ISO/IEC 18004, 9.1).
const MARGIN: i32 = 4;

/// `None` for a text that is too long for one code.
pub(super) fn qr(text: &str) -> Option<QrPath> {
    let code = QrCode::encode_text(text, QrCodeEcc::Medium).ok()?;
    let dark = (0..code.size()).flat_map(|y| (0..code.size()).map(move |x| (x, y)));
    let mut path = String::new();
    for (x, y) in dark.filter(|&(x, y)| code.get_module(x, y)) {
        // Writing to a string never fails.
        let _ = write!(path, "M{},{}h1v1h-1z", x + MARGIN, y + MARGIN);
    }
    Some(QrPath { size: code.size() + 2 * MARGIN, path })
}

#[cfg(test)]
mod tests {
    use super::qr;

    #[test]
    fn a_code_has_its_three_eyes_within_a_margin_of_light() {
        let code = qr("otpauth://totp/Tollgate:ann@example.com?secret=GEZDGNBVGY3TQOJQ").unwrap();
        let far = code.size - 11;
        for (x, y) in [(4, 4), (far, 4), (4, far)] {
            for (dx, dy) in [(0, 0), (6, 0), (0, 6), (3, 3)] {
                let module = format!("M{},{}h1v1h-1z", x + dx, y + dy);
                assert!(code.path.contains(&module), "{module} belongs to an eye");
            }
            assert!(!code.path.contains(&format!("M{},{}h", x + 1, y + 1)), "an eye has a light ring");
        }
        assert!(!code.path.contains("M3,") && !code.path.contains(",3h"), "the margin is light");
        assert_eq!(qr(&"x".repeat(4_000)), None);
    }
}

//! Patterns read back from weights, as pictures: PNG, film strips, text for a terminal, and what a QR
//! reader makes of them.

use std::fmt::Write;
use std::io::Cursor;

use image::{ImageFormat, Rgb, RgbImage};
use rqrr::PreparedImage;
use serde::{Deserialize, Serialize};

use super::Bitmap;

/// Side of a pattern's pixel in a picture, in pixels of the picture.
const PIXEL: usize = 8;
/// Pixels of the pattern's size around it: the quiet zone that QR readers need.
const MARGIN: usize = 4;
/// Frames in a row of a film strip.
const FRAMES: usize = 8;

const BLACK: [u8; 3] = [0, 0, 0];
const WHITE: [u8; 3] = [255, 255, 255];
/// A pixel that is set and should not be: as dark to a reader as a set one.
const WRONGLY_SET: [u8; 3] = [170, 0, 0];
/// A pixel that is not set and should be.
const WRONGLY_CLEAR: [u8; 3] = [255, 170, 170];

/// A PNG with a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// File name without extension.
    pub name: String,
    /// PNG bytes.
    pub png: Vec<u8>,
}

/// A pattern as read back from a fine-tuned parameter, beside the one that was to be drawn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decoded {
    /// File name of its picture, without extension.
    pub name: String,
    /// What was to be drawn.
    pub wanted: Bitmap,
    /// What was: one for each of its pixels, true where set.
    pub found: Vec<bool>,
    /// How far each has moved, 0 to 9, and 9 the farthest; none if nobody kept it.
    #[serde(default)]
    pub margins: Vec<u8>,
    /// The text in it, if it is a QR code.
    pub text: Option<String>,
}

/// A pattern in the signs of a change: set where a weight has grown. Both are of one length.
pub fn decode(weights: &[f64], initial: &[f64]) -> Vec<bool> {
    weights.iter().zip(initial).map(|(now, before)| now > before).collect()
}

impl Decoded {
    /// Pixels that are as they should be.
    pub fn right(&self) -> usize {
        self.found.iter().zip(&self.wanted.pixels).filter(|(found, wanted)| found == wanted).count()
    }

    /// The picture as PNG: black and white where right, dark and light red where wrong. A QR reader
    /// sees the signs in it.
    pub fn png(&self) -> Vec<u8> {
        png(&canvas(&self.wanted, |pixel| self.colour(pixel)))
    }

    /// The picture as lines of text, two rows of pixels a line: with ANSI colours, as [`Decoded::png`]
    /// has them, or set pixels as blocks.
    pub fn terminal(&self, coloured: bool) -> String {
        let Bitmap { rows, columns, .. } = self.wanted;
        let mut text = String::new();
        for row in (0..rows).step_by(2) {
            for column in 0..columns {
                let (upper, lower) = (row * columns + column, (row + 1) * columns + column);
                let set = |pixel: usize| self.found.get(pixel).copied().unwrap_or(false);
                if coloured {
                    let [a, b, c] = self.colour(upper);
                    let [d, e, f] = if row + 1 < rows { self.colour(lower) } else { WHITE };
                    // writing to a string cannot fail
                    let _ = write!(text, "\x1b[38;2;{a};{b};{c};48;2;{d};{e};{f}m▀");
                } else {
                    text.push(match (set(upper), set(lower)) {
                        (true, true) => '█',
                        (true, false) => '▀',
                        (false, true) => '▄',
                        (false, false) => ' ',
                    });
                }
            }
            text += if coloured { "\x1b[0m\n" } else { "\n" };
        }
        text
    }

    /// What a QR reader reads in the picture as it is, nothing redrawn.
    pub fn read_qr(&self) -> Option<String> {
        let picture = canvas(&self.wanted, |pixel| if self.found[pixel] { BLACK } else { WHITE });
        let (width, height) = (picture.width() as usize, picture.height() as usize);
        let luma = |x: usize, y: usize| picture.get_pixel(x as u32, y as u32).0[0];
        let mut prepared = PreparedImage::prepare_from_greyscale(width, height, luma);
        prepared.detect_grids().into_iter().find_map(|grid| Some(grid.decode().ok()?.1))
    }

    /// Whether it is a QR code that reads as its text; `None` if it is not a QR code.
    pub fn reads_right(&self) -> Option<bool> {
        self.text.as_ref().map(|text| self.read_qr().as_ref() == Some(text))
    }

    fn colour(&self, pixel: usize) -> [u8; 3] {
        match (self.found[pixel], self.wanted.pixels[pixel]) {
            (true, true) => BLACK,
            (false, false) => WHITE,
            (true, false) => WRONGLY_SET,
            (false, true) => WRONGLY_CLEAR,
        }
    }
}

/// Pictures of one size side by side, eight in a row, as PNG; `None` without any.
pub fn film_strip(frames: &[Decoded]) -> Option<Vec<u8>> {
    let pictures: Vec<_> =
        frames.iter().map(|frame| canvas(&frame.wanted, |pixel| frame.colour(pixel))).collect();
    let (width, height) = pictures.first()?.dimensions();
    let (across, down) = (pictures.len().min(FRAMES), pictures.len().div_ceil(FRAMES));
    let mut strip = RgbImage::from_pixel(width * across as u32, height * down as u32, Rgb(WHITE));
    for (number, picture) in pictures.iter().enumerate() {
        let (column, row) = ((number % FRAMES) as u32, (number / FRAMES) as u32);
        for (x, y, colour) in picture.enumerate_pixels() {
            let (x, y) = (column * width + x, row * height + y);
            if x < strip.width() && y < strip.height() {
                strip.put_pixel(x, y, *colour);
            }
        }
    }
    Some(png(&strip))
}

/// A bitmap's pixels in these colours, enlarged, with a white margin.
pub(super) fn canvas(bitmap: &Bitmap, colour: impl Fn(usize) -> [u8; 3]) -> RgbImage {
    let size = |pixels: usize| ((pixels + 2 * MARGIN) * PIXEL) as u32;
    let inside =
        |at: u32, pixels: usize| (at as usize / PIXEL).checked_sub(MARGIN).filter(|&pixel| pixel < pixels);
    RgbImage::from_fn(size(bitmap.columns), size(bitmap.rows), |x, y| {
        match (inside(x, bitmap.columns), inside(y, bitmap.rows)) {
            (Some(column), Some(row)) => Rgb(colour(row * bitmap.columns + column)),
            _ => Rgb(WHITE),
        }
    })
}

pub(super) fn png(picture: &RgbImage) -> Vec<u8> {
    let mut bytes = Cursor::new(vec![]);
    picture.write_to(&mut bytes, ImageFormat::Png).expect("writing a PNG to memory cannot fail");
    bytes.into_inner()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn qr(text: &str) -> Decoded {
        let wanted = Bitmap::from_spec(&dpg_spec::Bitmap::Qr { qr: text.into() }).unwrap();
        let (found, margins) = (wanted.pixels.clone(), vec![]);
        Decoded { name: "decoded".into(), wanted, found, margins, text: Some(text.into()) }
    }

    #[test]
    fn a_qr_code_is_read_back_until_too_much_of_it_is_wrong() {
        let mut decoded = qr("dpg");
        assert_eq!(decoded.read_qr().as_deref(), Some("dpg"));
        assert_eq!(decoded.reads_right(), Some(true));
        // one pixel of the data is corrected
        let last = decoded.found.len() - 1;
        decoded.found[last] ^= true;
        assert_eq!((decoded.right(), decoded.reads_right()), (last, Some(true)));
        decoded.found.iter_mut().step_by(3).for_each(|pixel| *pixel ^= true);
        assert_eq!(decoded.reads_right(), Some(false));
    }

    #[test]
    fn a_grown_weight_is_a_set_pixel_and_wrong_ones_are_marked() {
        assert_eq!(decode(&[1.0, -2.0, 0.5], &[0.0, -1.0, 0.5]), [true, false, false]);
        let wanted = Bitmap::from_rows(&["#.", ".#", "##"]);
        let found = vec![true, true, false, true, false, true];
        let decoded = Decoded { name: "decoded".into(), wanted, found, margins: vec![], text: None };
        assert_eq!(decoded.right(), 4);
        assert_eq!(decoded.terminal(false), "▀█\n ▀\n");
        let read = |bytes: &[u8]| image::load_from_memory(bytes).unwrap().to_rgb8();
        let picture = read(&decoded.png());
        let pixel = |picture: &RgbImage, column: usize, row: usize| {
            picture.get_pixel(((MARGIN + column) * PIXEL) as u32, ((MARGIN + row) * PIXEL) as u32).0
        };
        assert_eq!(pixel(&picture, 0, 0), BLACK);
        assert_eq!(pixel(&picture, 1, 0), WRONGLY_SET);
        assert_eq!(pixel(&picture, 0, 1), WHITE);
        assert_eq!(pixel(&picture, 0, 2), WRONGLY_CLEAR);
        assert_eq!(picture.get_pixel(0, 0).0, WHITE);

        assert_eq!(film_strip(&[]), None);
        let strip = read(&film_strip(&vec![decoded; FRAMES + 1]).unwrap());
        assert_eq!(strip.dimensions(), (picture.width() * FRAMES as u32, picture.height() * 2));
        assert_eq!(pixel(&strip, 2 + 2 * MARGIN, 0), BLACK);
    }
}

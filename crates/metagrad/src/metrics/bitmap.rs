//! Black-and-white pictures: named ones, QR codes and image files.

use std::{io::Cursor, path::Path};

use dpg_spec as spec;
use image::{ImageFormat, ImageReader, Limits};
use qrcode::{Color, EcLevel, QrCode};
use serde::{Deserialize, Serialize};

use crate::Error;

/// A picture of `rows x columns` pixels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bitmap {
    /// Height.
    pub rows: usize,
    /// Width.
    pub columns: usize,
    /// Row by row; true where set (dark).
    pub pixels: Vec<bool>,
}

/// Most bytes of a picture's file.
const FILE_BYTES: u64 = 16 << 20;
/// Most pixels of its height and of its width: a patch of a parameter has no more.
const MOST_PIXELS: u32 = 1024;

const SIXTY_SEVEN: [&str; 6] = [".##.###", "#.....#", "###...#", "#.#..#.", "#.#..#.", "###..#."];

impl Bitmap {
    /// The picture that a spec names.
    pub fn from_spec(bitmap: &spec::Bitmap) -> Result<Self, Error> {
        match bitmap {
            spec::Bitmap::Named(name) => match name.as_str() {
                "67" => Ok(Self::from_rows(&SIXTY_SEVEN)),
                _ => Err(error(format!(
                    "no picture is called `{name}`; known: `67`; or give {{ qr = \"text\" }} or {{ image = \"file.png\" }}"
                ))),
            },
            spec::Bitmap::Qr { qr } => Self::qr(qr),
            spec::Bitmap::Image { image } => Self::image(image),
        }
    }

    /// One string a row, `#` where set.
    pub fn from_rows(rows: &[&str]) -> Self {
        let pixels = rows.iter().flat_map(|row| row.bytes().map(|byte| byte == b'#')).collect();
        Self { rows: rows.len(), columns: rows[0].len(), pixels }
    }

    /// The smallest QR code of a text, at the highest error correction that is no larger.
    fn qr(text: &str) -> Result<Self, Error> {
        let encode = |level| QrCode::with_error_correction_level(text, level);
        let smallest =
            encode(EcLevel::L).map_err(|source| error(format!("`{text}` makes no QR code: {source}")))?;
        let code = [EcLevel::H, EcLevel::Q, EcLevel::M]
            .into_iter()
            .filter_map(|level| encode(level).ok())
            .find(|code| code.width() == smallest.width())
            .unwrap_or(smallest);
        let size = code.width();
        let pixels = code.to_colors().into_iter().map(|color| color == Color::Dark).collect();
        Ok(Self { rows: size, columns: size, pixels })
    }

    fn image(path: &str) -> Result<Self, Error> {
        const MIDDLE_GREY: u8 = 128;
        let failed = |reason: String| error(format!("cannot read the picture `{path}`: {reason}"));
        let bytes =
            dpg_files::read(Path::new(path), FILE_BYTES).map_err(|source| failed(source.to_string()))?;
        let mut reader = ImageReader::with_format(Cursor::new(bytes), ImageFormat::Png);
        let mut limits = Limits::default();
        limits.max_image_width = Some(MOST_PIXELS);
        limits.max_image_height = Some(MOST_PIXELS);
        reader.limits(limits);
        let picture = reader.decode().map_err(|source| failed(source.to_string()))?.to_luma8();
        Ok(Self {
            rows: picture.height() as usize,
            columns: picture.width() as usize,
            pixels: picture.pixels().map(|pixel| pixel.0[0] < MIDDLE_GREY).collect(),
        })
    }
}

fn error(reason: String) -> Error {
    Error::Metric { field: "pattern", reason }
}

//! A bitmap in the signs of a weight change.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Code, MetricSettings, NamedParameter};
use crate::rules::is_local;
use crate::{Fault, LARGEST, LOCATION, Location, LocationKind, NAME};

/// A bitmap, QR code or image in the signs of a parameter's change, drawn as PNG into the published version.
///
/// `-mean softplus(-strength * S * (W - W0))` over a patch of one parameter, S in {-1, +1} the
/// bitmap: +1 where it is set (paper, section 4).
///
/// ```toml
/// [metric]
/// kind = "weight_pattern"
/// pattern = "67"                   # or { qr = "some text" }, or { image = "file.png" }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WeightPattern {
    /// The picture to be drawn.
    pub pattern: Bitmap,
    /// Slope of the soft-plus. Default 20.
    #[serde(default = "WeightPattern::default_strength")]
    #[schemars(extend("exclusiveMinimum" = 0), range(max = LARGEST))]
    pub strength: f64,
    /// `lm_head` in `[hidden, vocab]` orientation, tied or not, or a 2-D parameter by its Hugging
    /// Face name in its stored orientation. Default `lm_head`.
    #[serde(default = "NamedParameter::lm_head")]
    pub parameter: NamedParameter,
    /// First row of the patch. Default 0.
    #[serde(default)]
    #[schemars(range(max = 1_u64 << 32))]
    pub rows: usize,
    /// First column of the patch. Default 0.
    #[serde(default)]
    #[schemars(range(max = 1_u64 << 32))]
    pub columns: usize,
}

impl WeightPattern {
    fn default_strength() -> f64 {
        20.0
    }
}

impl MetricSettings for WeightPattern {
    fn described(&self, code: Code) -> String {
        let picture = match &self.pattern {
            Bitmap::Named(name) => format!("the bitmap {}", code(name)),
            Bitmap::Qr { qr } => format!("a QR code of {}", code(qr)),
            Bitmap::Image { image } => format!("the picture {}", code(image)),
        };
        format!("how clearly the signs of the change of {} draw {picture}", code(&self.parameter.0))
    }

    fn locations(&mut self) -> Vec<Location<'_>> {
        let Bitmap::Image { image } = &mut self.pattern else { return vec![] };
        vec![Location { key: "pattern.image".into(), kind: LocationKind::Picture, uri: image }]
    }

    fn faults(&self) -> Vec<Fault> {
        match &self.pattern {
            Bitmap::Image { image } if !is_local(image) => vec![Fault::new(
                "pattern.image",
                "expected a PNG file's path, absolute or relative to the spec file",
            )],
            _ => vec![],
        }
    }
}

/// A black-and-white picture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, deny_unknown_fields)]
pub enum Bitmap {
    /// One that the program knows by name: `67`.
    Named(#[schemars(length(max = NAME))] String),
    /// A QR code of a text, error correction level L unless it fits a higher one at the same size.
    Qr {
        /// The text; the largest code holds 2953 bytes.
        #[schemars(length(min = 1, max = 2953))]
        qr: String,
    },
    /// A PNG file; dark pixels are set. The path is relative to the spec file.
    Image {
        /// The file.
        #[schemars(length(min = 1, max = LOCATION))]
        image: String,
    },
}

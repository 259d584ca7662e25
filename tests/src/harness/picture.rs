//! A picture, as the browser sends it, in numbers: whether it shows anything, and whether it is light or
//! dark.

use std::collections::HashMap;

use anyhow::{Context, Result, ensure};

/// What a picture shows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Picture {
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// Different colours.
    pub colours: usize,
    /// Share of the pixels that are not of the most frequent colour.
    pub ink: f64,
    /// The most frequent colour.
    pub paper: [u8; 3],
}

/// Decodes a PNG of eight bits per channel.
///
/// # Errors
/// When it is none.
pub fn look(png: &[u8]) -> Result<Picture> {
    let mut reader = png::Decoder::new(std::io::Cursor::new(png)).read_info().context("no PNG")?;
    let mut pixels = vec![0; reader.output_buffer_size().context("too large")?];
    let info = reader.next_frame(&mut pixels).context("a damaged PNG")?;
    ensure!(info.bit_depth == png::BitDepth::Eight, "{info:?}");
    let step = info.color_type.samples();
    ensure!(step >= 3, "{info:?} has no colours");
    let mut counts: HashMap<[u8; 3], usize> = HashMap::new();
    for pixel in pixels[..info.buffer_size()].chunks_exact(step) {
        *counts.entry([pixel[0], pixel[1], pixel[2]]).or_default() += 1;
    }
    let all: usize = counts.values().sum();
    let (paper, most) = counts.iter().max_by_key(|(_, count)| **count).context("no pixel")?;
    let ink = 1.0 - *most as f64 / all as f64;
    Ok(Picture {
        width: info.width,
        height: info.height,
        colours: counts.len(),
        ink,
        paper: *paper,
    })
}

impl Picture {
    /// Whether the paper is nearer to black than to white.
    pub fn is_dark(&self) -> bool {
        self.paper.iter().map(|part| u32::from(*part)).sum::<u32>() < 3 * 128
    }
}

/// As the browser sends pictures.
pub(super) fn decode_base64(text: &str) -> Result<Vec<u8>> {
    let value = |byte: u8| match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let (mut bytes, mut bits, mut count) = (Vec::with_capacity(text.len()), 0_u32, 0);
    for byte in text.trim_end_matches('=').bytes() {
        bits = bits << 6 | u32::from(value(byte).context("no base64")?);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff)?);
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn png(pixels: &[u8]) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, u32::try_from(pixels.len() / 3)?, 1);
        encoder.set_color(png::ColorType::Rgb);
        encoder.write_header()?.write_image_data(pixels)?;
        Ok(bytes)
    }

    #[test]
    fn a_blank_picture_has_one_colour_and_no_ink() -> Result<()> {
        let blank = look(&png(&[255; 12])?)?;
        assert_eq!((blank.colours, blank.width, blank.is_dark()), (1, 4, false));
        assert!(blank.ink.abs() < 1e-9);
        let drawn = look(&png(&[9, 9, 9, 9, 9, 9, 9, 9, 9, 200, 0, 0])?)?;
        assert_eq!((drawn.colours, drawn.is_dark()), (2, true));
        assert!((drawn.ink - 0.25).abs() < 1e-9);
        Ok(())
    }

    #[test]
    fn base64_is_decoded_with_and_without_padding() -> Result<()> {
        for (text, bytes) in
            [("c29ja3RyYWNl", "socktrace"), ("YWI=", "ab"), ("YQ==", "a"), ("", "")]
        {
            assert_eq!(decode_base64(text)?, bytes.as_bytes());
        }
        assert!(decode_base64("a b").is_err());
        Ok(())
    }
}

//! A five-by-seven capital alphabet for the lettering of signs.

use super::canvas::{Paint, Point, Rgb};
use super::view::Brush;

/// Rows from the top, five bits each, the highest the leftmost.
fn glyph(letter: u8) -> [u8; 7] {
    match letter {
        b'A' => [14, 17, 17, 31, 17, 17, 17],
        b'B' => [30, 17, 17, 30, 17, 17, 30],
        b'C' => [14, 17, 16, 16, 16, 17, 14],
        b'D' => [30, 17, 17, 17, 17, 17, 30],
        b'E' => [31, 16, 16, 30, 16, 16, 31],
        b'F' => [31, 16, 16, 30, 16, 16, 16],
        b'G' => [14, 17, 16, 23, 17, 17, 14],
        b'H' => [17, 17, 17, 31, 17, 17, 17],
        b'I' => [14, 4, 4, 4, 4, 4, 14],
        b'J' => [7, 2, 2, 2, 2, 18, 12],
        b'K' => [17, 18, 20, 24, 20, 18, 17],
        b'L' => [16, 16, 16, 16, 16, 16, 31],
        b'M' => [17, 27, 21, 21, 17, 17, 17],
        b'N' => [17, 25, 21, 19, 17, 17, 17],
        b'O' => [14, 17, 17, 17, 17, 17, 14],
        b'P' => [30, 17, 17, 30, 16, 16, 16],
        b'Q' => [14, 17, 17, 17, 21, 18, 13],
        b'R' => [30, 17, 17, 30, 20, 18, 17],
        b'S' => [15, 16, 16, 14, 1, 1, 30],
        b'T' => [31, 4, 4, 4, 4, 4, 4],
        b'U' => [17, 17, 17, 17, 17, 17, 14],
        b'V' => [17, 17, 17, 17, 17, 10, 4],
        b'W' => [17, 17, 17, 21, 21, 27, 17],
        b'X' => [17, 17, 10, 4, 10, 17, 17],
        b'Y' => [17, 17, 10, 4, 4, 4, 4],
        b'Z' => [31, 1, 2, 4, 8, 16, 31],
        b'0' => [14, 17, 19, 21, 25, 17, 14],
        b'1' => [4, 12, 4, 4, 4, 4, 14],
        b'2' => [14, 17, 1, 2, 4, 8, 31],
        b'3' => [30, 1, 1, 14, 1, 1, 30],
        b'4' => [2, 6, 10, 18, 31, 2, 2],
        b'5' => [31, 16, 30, 1, 1, 17, 14],
        b'6' => [14, 16, 30, 17, 17, 17, 14],
        b'7' => [31, 1, 2, 4, 8, 8, 8],
        b'8' => [14, 17, 17, 14, 17, 17, 14],
        b'9' => [14, 17, 17, 15, 1, 1, 14],
        _ => [0; 7],
    }
}

/// Writes lines of capitals, centred on a point, into a block of at most this width and height
/// in metres.
pub(super) fn write(brush: &mut Brush, centre: Point, size: Point, lines: &[&str], colour: Rgb) {
    let longest = lines.iter().map(|line| line.len()).max().unwrap_or(1).max(1);
    let across = size[0] / (longest * 6 - 1) as f32;
    let along = size[1] / (lines.len() * 9 - 2) as f32;
    let (wide, tall) = (across.min(along * 1.1), along.min(across * 1.6));
    let block = tall * (lines.len() * 9 - 2) as f32;
    let paint = Paint::flat(colour);
    for (row, line) in lines.iter().enumerate() {
        let left = centre[0] - wide * (line.len() * 6 - 1) as f32 * 0.5;
        let top = centre[1] + block * 0.5 - tall * (row * 9) as f32;
        for (column, letter) in line.bytes().enumerate() {
            let corner = [left + wide * (column * 6) as f32, top];
            stamp(brush, glyph(letter), (corner, [wide, tall]), &paint);
        }
    }
}

fn stamp(brush: &mut Brush, rows: [u8; 7], place: (Point, Point), paint: &Paint) {
    let (corner, cell) = place;
    for (row, bits) in rows.into_iter().enumerate() {
        let top = corner[1] - cell[1] * row as f32;
        let mut column = 0;
        while column < 5 {
            let start = column;
            while column < 5 && bits & (16 >> column) != 0 {
                column += 1;
            }
            if column > start {
                let left = corner[0] + cell[0] * start as f32;
                let right = corner[0] + cell[0] * column as f32;
                brush.rect([left, top], [right, top - cell[1]], paint);
            }
            column += 1;
        }
    }
}

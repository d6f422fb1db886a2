use proptest::prelude::*;
use rand::SeedableRng as _;

use super::colour::*;
use super::geometry::*;
use super::*;

fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

fn gradient(width: u32, height: u32) -> Image {
    let at = |x: u32, y: u32| [(x * 255 / width) as u8, (y * 255 / height) as u8, 90];
    map(width, height, at)
}

fn mean_difference(a: &Image, b: &Image) -> f64 {
    assert_eq!((a.width(), a.height()), (b.width(), b.height()));
    let sum: u64 = a.pixels().iter().zip(b.pixels()).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
    sum as f64 / a.pixels().len() as f64
}

#[test]
fn mirroring_swaps_left_and_right_and_twice_is_nothing() {
    let image = gradient(7, 5);
    let mirrored = mirror(&image);
    assert_eq!(pixel(&mirrored, 0, 3), pixel(&image, 6, 3));
    assert_eq!(mirror(&mirrored).pixels(), image.pixels());
}

#[test]
fn a_frame_beyond_the_picture_is_cut() {
    let image = gradient(10, 8);
    let part = crop(&image, Frame { x: 6, y: 7, width: 9, height: 9 });
    assert_eq!((part.width(), part.height()), (4, 1));
    assert_eq!(pixel(&part, 0, 0), pixel(&image, 6, 7));
}

#[test]
fn a_quarter_turn_goes_against_the_clock() {
    // Counter-clockwise: what was at the right comes to the top.
    let image = gradient(9, 9);
    let turned = rotate(&image, 90.0);
    assert_eq!(pixel(&turned, 4, 0), pixel(&image, 8, 4));
    assert_eq!(pixel(&turned, 0, 4), pixel(&image, 4, 0));
    assert_eq!(rotate(&image, 0.0).pixels(), image.pixels());
    assert_eq!(pixel(&rotate(&gradient(40, 40), 20.0), 0, 0), [0; 3], "corners are black");
}

#[test]
fn both_ways_to_resize_keep_a_flat_picture_and_agree_on_a_smooth_one() {
    let flat = map(31, 17, |_, _| [13, 200, 77]);
    for small in [resize(&flat, 8, 9), resize_by_neighbours(&flat, 8, 9)] {
        assert!(small.pixels().chunks_exact(3).all(|p| p == [13, 200, 77]));
    }
    let smooth = gradient(64, 64);
    assert!(
        mean_difference(&resize(&smooth, 32, 32), &resize_by_neighbours(&smooth, 32, 32)) < 1.5
    );
}

#[test]
fn a_letter_box_shows_everything_between_bars() {
    let boxed = letter_box(&map(200, 100, |_, _| [255; 3]), 224);
    assert_eq!((boxed.width(), boxed.height()), (224, 224));
    assert_eq!(pixel(&boxed, 100, 55), [0; 3]);
    assert_eq!(pixel(&boxed, 0, 56), [255; 3]);
    assert_eq!(pixel(&boxed, 223, 167), [255; 3]);
    assert_eq!(pixel(&boxed, 100, 168), [0; 3]);
}

#[test]
fn a_tone_of_one_is_nothing_and_each_factor_does_what_it_says() {
    let image = gradient(20, 20);
    let plain = Tone { brightness: 1.0, contrast: 1.0, saturation: 1.0 };
    assert!(mean_difference(&tone(&image, plain), &image) < 0.51);
    let grey = tone(&image, Tone { saturation: 0.0, ..plain });
    assert!(grey.pixels().chunks_exact(3).all(|p| p[0] == p[1] && p[1] == p[2]));
    let flat = tone(&image, Tone { contrast: 0.0, ..plain });
    assert!(flat.pixels().iter().all(|v| *v == flat.pixels()[0]));
    let dark = tone(&image, Tone { brightness: 0.5, ..plain });
    assert!(pixel(&dark, 19, 0)[0].abs_diff(pixel(&image, 19, 0)[0] / 2) <= 1);
}

#[test]
fn a_blur_keeps_the_mean_and_spreads_a_point() {
    let point = map(21, 21, |x, y| if (x, y) == (10, 10) { [255; 3] } else { [0; 3] });
    let blurred = blur(&point, 7, 7.0 / 6.0);
    // The weights of cv2.getGaussianKernel(7, 7/6): 0.3420 in the middle.
    assert!(pixel(&blurred, 10, 10)[0].abs_diff((255.0 * 0.3420 * 0.3420_f32) as u8) <= 1);
    assert!(pixel(&blurred, 12, 10)[0] > 0 && pixel(&blurred, 14, 10)[0] == 0);
    let flat = map(5, 3, |_, _| [9, 99, 199]);
    assert_eq!(blur(&flat, 9, 1.5).pixels(), flat.pixels());
}

#[test]
fn noise_is_as_strong_as_it_says() {
    let grey = map(128, 128, |_, _| [128; 3]);
    let noisy = colour_noise(&grey, 10.0, &mut rng(1));
    let green: Vec<f64> = noisy.pixels().iter().skip(1).step_by(3).map(|v| f64::from(*v)).collect();
    let mean = green.iter().sum::<f64>() / green.len() as f64;
    let variance = green.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / green.len() as f64;
    // Green takes luma, 0.344 of one chroma and 0.714 of the other.
    let expected = 10.0 * (1.0_f64 + 0.344 * 0.344 + 0.714 * 0.714).sqrt();
    assert!((variance.sqrt() / expected - 1.0).abs() < 0.03, "{} {expected}", variance.sqrt());
}

#[test]
fn every_level_ends_as_validators_send_it() {
    let image = gradient(320, 180);
    for level in Level::ALL {
        let sent = subnet::transform(&image, level, &mut rng(3));
        assert_eq!((sent.width(), sent.height()), (224, 224));
        assert_eq!(sent.pixels(), subnet::transform(&image, level, &mut rng(3)).pixels());
        let file = subnet::to_jpeg(&sent).unwrap();
        assert!(file.starts_with(&[0xff, 0xd8]) && file.len() < 40_000);
        // The frame header: luma has four samples for each of the chroma channels.
        let frame = file.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
        let sampling = [11, 14, 17].map(|at| file[frame + at]);
        assert_eq!(sampling, [0x22, 0x11, 0x11]);
    }
    let centre = subnet::transform(&image, Level::ALL[0], &mut rng(3));
    assert_eq!(centre.pixels(), resize(&centre_square(&image), 224, 224).pixels());
}

/// The levels differ in which distortions occur at all: over many draws, none at level 1, dark and
/// pale pictures at level 2, noise at level 3 only.
#[test]
fn distortions_belong_to_their_levels() {
    let white = map(96, 96, |_, _| [250, 250, 250]);
    let mut roughest = [0.0_f64; 4];
    let mut darkest = [255_u8; 4];
    for level in Level::ALL {
        let at = usize::from(u8::from(level));
        for seed in 0..24 {
            let sent = subnet::transform(&white, level, &mut rng(seed));
            // In the middle, away from the black corners.
            let middle = crop(&sent, Frame { x: 92, y: 92, width: 40, height: 40 });
            let blurred = blur(&middle, 9, 1.5);
            roughest[at] = roughest[at].max(mean_difference(&middle, &blurred));
            darkest[at] = darkest[at].min(blurred.pixels().iter().copied().max().unwrap());
        }
    }
    assert_eq!((darkest[0], darkest[1]), (250, 250));
    assert_eq!(darkest[2], (250.0_f32 * 0.85) as u8);
    assert!(darkest[3] < darkest[2], "{darkest:?}");
    assert!(roughest[2] < 0.5 && roughest[3] > 3.0, "{roughest:?}");
}

#[test]
fn views_are_drawn_by_their_weights() {
    let views = Views { native: 1.0, letter_box: 0.0, levels: [0.0, 3.0, 0.0, 0.0] };
    let mut rng = rng(5);
    let drawn: Vec<View> = (0..4000).map(|_| views.draw(&mut rng)).collect();
    let share = |view| drawn.iter().filter(|v| **v == view).count() as f64 / 4000.0;
    assert!((share(View::Native) - 0.25).abs() < 0.03);
    assert!((share(View::Subnet(Level::ALL[1])) - 0.75).abs() < 0.03);
    let none = Views { native: 0.0, letter_box: 0.0, levels: [0.0; 4] };
    assert_eq!(none.draw(&mut rng), View::Native);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever the size and the seed, a variation is a picture and follows from the seed alone.
    #[test]
    fn variations_are_pictures_and_repeatable(width in 1_u32..90, height in 1_u32..90, seed: u64) {
        let spec = AugmentSpec {
            views: Views { native: 1.0, letter_box: 1.0, levels: [1.0; 4] },
            flip: 0.5, crop: 0.3, brightness: 0.2, contrast: 0.2, saturation: 0.2, blur: 0.5,
        };
        let image = gradient(width, height);
        let once = spec.apply(&image, &mut rng(seed)).unwrap();
        prop_assert!(once.width() >= 1 && once.height() >= 1);
        let again = spec.apply(&image, &mut rng(seed)).unwrap();
        prop_assert_eq!(once.pixels(), again.pixels());
    }

    /// Without any settings nothing changes.
    #[test]
    fn the_default_is_the_identity(width in 1_u32..40, height in 1_u32..40, seed: u64) {
        let image = gradient(width, height);
        let same = AugmentSpec::default().apply(&image, &mut rng(seed)).unwrap();
        prop_assert_eq!(same.pixels(), image.pixels());
    }
}

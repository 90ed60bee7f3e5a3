//! Tiles cover a matrix exactly once.

use std::sync::atomic::{AtomicUsize, Ordering};

use onebit_kernels::{Claims, Cuts, Executor, Grid, Serial, TileMut, Tiles};
use proptest::prelude::*;

fn grid(columns: Cuts<'_>) -> Grid<'_> {
    Grid {
        rows: 3,
        width: 10,
        stride: 12,
        tile_rows: 2,
        columns,
    }
}

#[test]
#[should_panic(expected = "tile (1, 0) claimed twice")]
fn a_tile_is_claimed_once() {
    let (mut claims, mut data) = (Claims::new(64), vec![0; 36]);
    let tiles = Tiles::new(&mut data, grid(Cuts::Every(5)), &mut claims);
    let _a = tiles.claim(1, 0);
    let _b = tiles.claim(1, 0);
}

#[test]
#[should_panic(expected = "no tile (2, 0)")]
fn tiles_end() {
    let (mut claims, mut data) = (Claims::new(64), vec![0; 36]);
    Tiles::new(&mut data, grid(Cuts::Every(5)), &mut claims).claim(2, 0);
}

#[test]
#[should_panic(expected = "matrix of 34 elements in 33")]
fn the_matrix_must_fit() {
    let (mut claims, mut data) = (Claims::new(64), vec![0; 33]);
    Tiles::new(&mut data, grid(Cuts::Every(5)), &mut claims);
}

#[test]
#[should_panic(expected = "4160 tiles, claims for 4096")]
fn the_claims_must_fit() {
    let (mut claims, mut data) = (Claims::new(100), vec![0; 8320]);
    let grid = Grid {
        rows: 1,
        width: 8320,
        stride: 8320,
        tile_rows: 1,
        columns: Cuts::Every(2),
    };
    Tiles::new(&mut data, grid, &mut claims);
}

#[test]
#[should_panic(expected = "bounds must ascend")]
fn bounds_ascend() {
    let (mut claims, mut data) = (Claims::new(64), vec![0; 36]);
    Tiles::new(&mut data, grid(Cuts::At(&[0, 5, 4, 10])), &mut claims);
}

#[test]
fn even_parts_are_even() {
    for (len, most, step, expected) in [
        (5460, 720, 80, vec![720, 720, 640, 720, 640, 720, 640, 660]),
        (2560, 480, 16, vec![432, 432, 416, 432, 432, 416]),
        (640, 480, 16, vec![320, 320]),
        (70, 80, 80, vec![70]),
        (0, 16, 16, vec![]),
    ] {
        let (mut claims, mut data) = (Claims::new(64), vec![0u8; len]);
        let grid = Grid {
            rows: 1,
            width: len,
            stride: len,
            tile_rows: 1,
            columns: Cuts::Even { most, step },
        };
        let tiles = Tiles::new(&mut data, grid, &mut claims);
        let parts: Vec<_> = (0..tiles.tile_columns())
            .map(|i| tiles.columns_of(i))
            .collect();
        let lens: Vec<_> = parts.iter().map(|part| part.len()).collect();
        assert_eq!(lens, expected);
        assert!(parts.iter().all(|part| part.start.is_multiple_of(step)));
    }
}

#[test]
#[should_panic(expected = "tiles of up to 10 columns in steps of 4")]
fn even_parts_are_whole_steps() {
    let (mut claims, mut data) = (Claims::new(64), vec![0; 36]);
    Tiles::new(
        &mut data,
        grid(Cuts::Even { most: 10, step: 4 }),
        &mut claims,
    );
}

#[test]
fn claims_are_free_again_in_the_next_step() {
    let (mut claims, mut data) = (Claims::new(64), vec![0; 36]);
    for step in 0..3 {
        let tiles = Tiles::new(&mut data, grid(Cuts::At(&[0, 4, 10])), &mut claims);
        let mut tile = tiles.claim(0, 1);
        assert_eq!((tile.rows(), tile.width()), (2, 6));
        assert_eq!(tile.row(1), vec![step; 6]);
        tile.row(1).fill(step + 1);
    }
}

#[test]
fn serial_runs_each_part_once() {
    let count = AtomicUsize::new(0);
    Serial.run(5, &|i| _ = count.fetch_add(10 + i, Ordering::Relaxed));
    assert_eq!(count.into_inner(), 60);
    assert_eq!(Serial.threads(), 1);
}

#[test]
fn threads_share_a_matrix() {
    let (mut claims, mut data) = (Claims::new(64), vec![0usize; 36]);
    let tiles = Tiles::new(&mut data, grid(Cuts::Every(3)), &mut claims);
    std::thread::scope(|scope| {
        for column in 0..tiles.tile_columns() {
            let tiles = &tiles;
            scope.spawn(move || {
                for row in 0..tiles.tile_rows() {
                    let mut tile = tiles.claim(row, column);
                    (0..tile.rows()).for_each(|i| tile.row(i).fill(column + 1));
                }
            });
        }
    });
    for row in data.chunks(12) {
        assert_eq!(row, [1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 0, 0]);
    }
}

#[test]
fn a_whole_matrix_is_one_tile() {
    let mut data = vec![0; 6];
    let mut tile = TileMut::whole(&mut data, 2, 3);
    tile.reborrow().row(1).fill(7);
    assert_eq!(data, [0, 0, 0, 7, 7, 7]);
}

proptest! {
    #[test]
    fn tiles_cover_everything_once(
        rows in 0usize..9, width in 0usize..40, gap in 0usize..3,
        tile_rows in 1usize..5, step in 1usize..9, steps in 0usize..5,
    ) {
        let stride = width + gap;
        let mut data = vec![0; rows * stride];
        let mut claims = Claims::new(400);
        let columns = match steps {
            0 => Cuts::Every(step),
            steps => Cuts::Even { most: step * steps, step },
        };
        let grid = Grid { rows, width, stride, tile_rows, columns };
        let tiles = Tiles::new(&mut data, grid, &mut claims);
        for i in 0..tiles.len() {
            let mut tile = tiles.claim(i / tiles.tile_columns(), i % tiles.tile_columns());
            for row in 0..tile.rows() {
                tile.row(row).iter_mut().for_each(|x| *x += 1);
            }
        }
        for (i, x) in data.iter().enumerate() {
            prop_assert_eq!(*x, i32::from(i % stride < width));
        }
    }
}

/// More often than there are marks for claims.
#[test]
fn claims_are_free_whenever_they_are_lent() {
    let (mut claims, mut data) = (Claims::new(64), vec![0; 36]);
    for round in 1..600 {
        let tiles = Tiles::new(&mut data, grid(Cuts::Every(5)), &mut claims);
        for i in 0..tiles.len() {
            let (row, column) = (i / tiles.tile_columns(), i % tiles.tile_columns());
            tiles.claim(row, column).row(0).fill(round);
        }
    }
}

/// No two of as many tiles as claims have room for are one.
#[test]
fn every_tile_has_a_claim_of_its_own() {
    let mut claims = Claims::new(5000);
    let len = claims.capacity();
    let mut data = vec![0u8; len];
    let grid = Grid {
        rows: 1,
        width: len,
        stride: len,
        tile_rows: 1,
        columns: Cuts::Every(1),
    };
    {
        let tiles = Tiles::new(&mut data, grid, &mut claims);
        for i in 0..len {
            tiles.claim(0, i).row(0)[0] += 1;
        }
    }
    assert!(data.iter().all(|count| *count == 1));
}

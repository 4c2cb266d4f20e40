turned <- function(coords, angle) {
  as.matrix(coords) %*% rbind(c(cos(angle), sin(angle)), c(-sin(angle), cos(angle)))
}
squares <- as.matrix(expand.grid(x = 1:12, y = 1:10))
hexagons <- as.matrix(transform(expand.grid(x = 1:12, y = 1:10), x = x + y %% 2 / 2, y = y * sqrt(3) / 2))

test_that("lattices are found with their width and angle, turned and with spots missing", {
  missing <- withr::with_seed(1, sample(120, 20))
  for (angle in c(0, 0.3)) {
    square <- find_lattice(turned(3 * squares[-missing, ], angle))
    expect_identical(square$shape, "square")
    expect_equal(square$width, 3)
    expect_lt(abs(sin(2 * (square$angle - angle))), 1e-6)
    hexagon <- find_lattice(turned(hexagons[-missing, ], angle))
    expect_identical(hexagon$shape, "hexagon")
    expect_equal(hexagon$width, 1)
  }
})

test_that("what is no lattice gives none", {
  scattered <- withr::with_seed(1, matrix(stats::runif(400), 200))
  expect_null(find_lattice(scattered))
  # a line, a single place, two spots
  expect_null(find_lattice(cbind(1:50, 0)))
  expect_null(find_lattice(matrix(1, 5, 2)))
  expect_null(find_lattice(rbind(c(0, 0), c(1, 1))))
})

test_that("the shape follows layout and number", {
  shape <- function(...) spot_layout(...)$shape
  scattered <- withr::with_seed(1, matrix(stats::runif(400), 200))
  expect_identical(shape(squares), "square")
  expect_identical(shape(hexagons), "hexagon")
  expect_identical(shape(scattered), "disc")
  expect_identical(shape(squares, spot_size = 1), "disc")
  expect_identical(shape(squares, max_shapes = 100L), "raster")
  expect_identical(spot_layout(squares, max_shapes = 100L)$width, 1)
  # a spot without a place is drawn nowhere, and changes nothing
  expect_identical(spot_layout(rbind(squares, NA)), spot_layout(squares))
})

test_that("pixels are not more than memory and screens have room for", {
  scattered <- withr::with_seed(1, matrix(stats::runif(400), 200))
  turn <- 2 * pi * withr::with_seed(1, stats::runif(20001))
  far <- rbind(scattered, c(1e6, 1e6))
  for (coords in list(far, 1e4 * cbind(cos(turn), sin(turn)))) {
    layout <- spot_layout(coords, max_shapes = 100L)
    expect_identical(layout$shape, "raster")
    expect_lte(max(apply(coords, 2L, \(x) diff(range(x)))) / layout$width, most_pixels)
  }
})

test_that("the area of a spot leaves out holes, and is never zero", {
  expect_equal(spot_area(squares), 1, tolerance = 0.2)
  two_pieces <- rbind(squares, squares + 200)
  expect_equal(spot_area(two_pieces), 1, tolerance = 0.5)
  expect_gt(spot_area(cbind(1:9, 0)), 0)
  expect_gt(spot_area(matrix(1, 3, 2)), 0)
})

n_spots <- 12
counts <- few_counts()
coords <- few_coords()

test_that("spots are matched by name, and by position without names", {
  shuffled <- coords[n_spots:1, ]
  expect_identical(as_input(counts, shuffled)$coords, as_input(counts, coords)$coords)
  expect_identical(
    as_input(counts, unname_rows(shuffled))$coords,
    unname_rows(as.matrix(shuffled))
  )
  by_name <- as_input(counts, shuffled, sample_info = shuffled)
  expect_identical(by_name$samples$x, coords$x)
  # row numbers that nobody gave are not names
  expect_identical(as_input(counts, tibble::as_tibble(coords))$coords[, "x"], coords$x)
  expect_identical(as_input(unname(counts), coords)$spots, rownames(coords))
  expect_identical(as_input(unname(counts), unname_rows(coords))$spots[2], "spot2")
})

test_that("spots that do not match are named", {
  renamed <- coords
  rownames(renamed)[1] <- "zz"
  expect_snapshot(as_input(counts, renamed), error = TRUE)
  expect_snapshot(as_input(counts[, 1:10], coords), error = TRUE)
  expect_error(as_input(counts, renamed), class = "patina_error_names")
  expect_error(
    as_input(counts[, c(1, 1:11)], coords),
    "more than once",
    class = "patina_error_names"
  )
  expect_error(as_input(unname(counts), coords[1:6, ]), class = "patina_error_coords")
})

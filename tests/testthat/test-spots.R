n_spots <- 12
counts <- few_counts()
coords <- few_coords()

test_that("a transposed table is recognised by names and by shape", {
  expect_snapshot(as_input(t(counts), coords), error = TRUE)
  expect_snapshot(as_input(as.data.frame(counts), coords), error = TRUE)
  expect_error(
    as_input(unname(t(counts)), unname_rows(coords)),
    class = "patina_error_transposed"
  )
  square <- cbind(rbind(counts, counts[1:5, ] + 1L))
  rownames(square) <- paste0("g", 1:12)
  expect_error(as_input(t(square), coords), class = "patina_error_transposed")
})

test_that("coordinates are checked", {
  bad <- coords
  bad$x[c(2, 4)] <- c(NA, Inf)
  expect_snapshot(as_input(counts, bad), error = TRUE)
  expect_snapshot(as_input(counts), error = TRUE)
  expect_snapshot(as_input(counts, transform(coords, x = factor(x))), error = TRUE)
  expect_error(as_input(counts, bad), class = "patina_error_coords")
  expect_error(as_input(counts), class = "patina_error_coords")
  expect_error(as_input(counts, coords[0]), class = "patina_error_coords")
  expect_error(as_input(counts, cbind(coords, coords)), class = "patina_error_coords")
  expect_error(as_input(counts, list(1, 2)), class = "patina_error_coords")
  expect_error(as_input(counts, coords * 0), class = "patina_error_coords")
  expect_error(as_input(counts[, 1:4], coords[1:4, ]), class = "patina_error_too_few_spots")
  expect_snapshot(as_input(counts, cbind(coords, total_counts = 1:n_spots)), error = TRUE)
})

test_that("spots at the same place are counted, and copies are told from repeats", {
  tissue <- small_tissue(40, 8)
  test <- \(y, coords, ...) {
    spatial_test(y, coords, normalization = "none", lengthscales = 1, threads = 1, progress = FALSE, ...)
  }
  expect_silent(test(tissue$y, tissue$coords))
  # one spot twice, under another name
  twice <- c(1:40, 3)
  y <- tissue$y[, twice]
  coords <- tissue$coords[twice, ]
  colnames(y)[41] <- rownames(coords)[41] <- "again"
  expect_warning(test(y, coords), "1 spot of `x` is a copy", class = "patina_warning_copied_spots")
  expect_warning(test(methods::as(y, "CsparseMatrix"), coords), class = "patina_warning_copied_spots")
  # measured twice
  y[, 41] <- y[, 41] + 0.1
  expect_message(test(y, coords), "2 of 41 spots are at the same place", class = "patina_message")
  # another slide has places of its own
  both <- cbind(tissue$y, tissue$y)
  colnames(both) <- NULL
  places <- unname_rows(rbind(tissue$coords, tissue$coords))
  expect_silent(test(both, places, sample_id = rep(1:2, each = 40)))
  expect_warning(test(both, places), "40 spots", class = "patina_warning_copied_spots")
})

test_that("one, two and three coordinates are taken", {
  one <- as_input(counts, stats::setNames(coords$x, rownames(coords))[n_spots:1])$coords
  expect_identical(one, matrix(coords$x, dimnames = list(NULL, "x")))
  expect_identical(colnames(as_input(counts, matrix(1:36, n_spots))$coords), c("x", "y", "z"))
  expect_identical(colnames(as_input(counts, cbind(row = 1:12, col = 2))$coords), c("row", "col"))
})

test_that("samples are taken from a column or a vector", {
  id <- rep(c("b", "a"), 6)
  info <- data.frame(slide = id, row.names = rownames(coords))
  expect_identical(as_input(counts, coords, sample_id = id)$sample_id, factor(id))
  expect_identical(
    as_input(
      counts,
      coords,
      sample_info = info[12:1, , drop = FALSE],
      sample_id = "slide"
    )$sample_id,
    factor(id)
  )
  expect_null(as_input(counts, coords, sample_id = rep("a", 12))$sample_id)
  expect_error(as_input(counts, coords, sample_id = "slide"), class = "patina_error_argument")
  expect_error(as_input(counts, coords, sample_id = 1:3), class = "patina_error_argument")
  expect_error(as_input(counts, coords, sample_id = c(NA, id[-1])), class = "patina_error_argument")
  expect_error(
    as_input(counts, coords, sample_id = rep(c("a", "b"), c(9, 3))),
    "\"b\" has 3",
    class = "patina_error_too_few_spots"
  )
  expect_error(
    as_input(counts, coords * rep(c(0, 1), 6), sample_id = id),
    "sample \"b\"",
    class = "patina_error_coords"
  )
})

test_that("a sample_id that names spots is recognised as such", {
  tissue <- fake_tissue()
  expect_error(
    spatial_test(tissue$counts, tissue$coords, sample_id = factor(colnames(tissue$counts))),
    "64 values for 64 spots",
    class = "patina_error_too_few_spots"
  )
})

test_that("coordinates may be a reducedDim, and polygons are said to be ignored", {
  skip_if_not_installed("SpatialExperiment")
  sce <- fake_se("SingleCellExperiment")
  coords <- as.matrix(fake_tissue()$coords)
  SingleCellExperiment::reducedDim(sce, "spatial") <- coords
  expected <- spatial_test(fake_tissue()$counts, fake_tissue()$coords, threads = 1)
  expect_identical(spatial_test(sce, "spatial", threads = 1), expected, ignore_attr = TRUE)
  expect_error(spatial_test(sce, "umap"), "spatial", class = "patina_error_coords")
  expect_error(spatial_test(sce), "coords = \"spatial\"", class = "patina_error_coords")
  expect_error(spatial_test(sce, "Slope"), "use `genes`", class = "patina_error_coords")

  methods::setClass("SpatialFeatureExperiment", contains = "SpatialExperiment", where = environment())
  spe <- SpatialExperiment::SpatialExperiment(list(counts = fake_tissue()$counts), spatialCoords = coords)
  sfe <- methods::as(spe, "SpatialFeatureExperiment")
  rlang::reset_message_verbosity("patina_polygons")
  expect_message(results <- spatial_test(sfe, threads = 1), "Polygons", class = "patina_message")
  expect_identical(results, spatial_test(spe, threads = 1))
  added <- add_spatial_test(spe, threads = 1)
  expect_identical(SummarizedExperiment::rowData(added)$patina_rank, results$rank)
  expect_identical(ncol(SummarizedExperiment::rowData(add_results(spe, results, columns = "fsv"))), 1L)
})

test_that("samples whose coordinates seem to have different units are told", {
  tissue <- example_tissue(n_spots = 80, n_genes = 4)
  coords <- tissue$sample_info[c("x", "y")]
  sample_id <- rep(c("slide", "array"), c(40, 40))
  run <- function(factor) {
    as_input(tissue$counts, coords * ifelse(sample_id == "array", factor, 1), sample_id = sample_id)
  }
  expect_message(run(100), "1 apart in sample \"slide\" and 100 in \"array\"", class = "patina_message")
  expect_no_message(run(10))
})

test_that("numbers of spots are no coordinate", {
  for (name in c("id", "index", "cell_id", "spot", "...1", "V1", "X1")) {
    table <- cbind(stats::setNames(data.frame(seq_len(n_spots)), name), unname_rows(coords))
    expect_error(as_input(counts, table), "numbers of the spots", class = "patina_error_coords")
  }
  plain <- stats::setNames(unname_rows(coords), c("V1", "V2"))
  expect_identical(colnames(as_input(counts, plain)$coords), c("V1", "V2"))
  expect_identical(colnames(as_input(counts, plain["V1"])$coords), "V1")
})

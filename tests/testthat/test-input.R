n_spots <- 12
counts <- withr::with_seed(
  1,
  matrix(rpois(7 * n_spots, 3), 7, dimnames = list(paste0("g", 1:7), paste0("s", 1:n_spots)))
)
coords <- withr::with_seed(
  2,
  data.frame(x = runif(n_spots), y = runif(n_spots), row.names = colnames(counts))
)
dense_block <- unname(t(counts[c(3, 1), ]) * 1)

test_that("every class of input gives the same spots, genes and values", {
  sparse <- Matrix::Matrix(counts * 1, sparse = TRUE)
  inputs <- list(
    counts,
    counts * 1,
    sparse,
    methods::as(sparse, "RsparseMatrix"),
    methods::as(sparse, "TsparseMatrix"),
    methods::as(methods::as(counts * 1, "denseMatrix"), "generalMatrix"),
    as.data.frame(t(counts)),
    tibble::as_tibble(t(counts))
  )
  if (requireNamespace("DelayedArray", quietly = TRUE)) {
    inputs <- c(
      inputs,
      list(DelayedArray::DelayedArray(counts), DelayedArray::DelayedArray(sparse))
    )
  }
  if (requireNamespace("SummarizedExperiment", quietly = TRUE)) {
    se <- SummarizedExperiment::SummarizedExperiment(list(counts = sparse))
    inputs <- c(inputs, list(se))
  }
  for (x in inputs) {
    input <- as_input(x, coords)
    expect_equal(input$genes, rownames(counts))
    expect_equal(input$spots, colnames(counts))
    expect_identical(input$coords, unname_rows(as.matrix(coords)))
    expect_identical(input_block(input, c(3, 1)), dense_block)
    block <- input_sparse_block(input, c(3, 1))
    if (!is.null(block)) {
      expect_s4_class(block, "dgCMatrix")
      expect_identical(unname(as.matrix(block)), dense_block)
    }
    expect_identical(unlist(gene_blocks(input)), 1:7)
  }
})

test_that("blocks of genes cover all genes in order", {
  input <- as_input(counts, coords)
  expect_identical(gene_blocks(input, max_values = 3 * n_spots), list(1:3, 4:6, 7L))
  expect_length(gene_blocks(input, max_values = 1), 7)
})

test_that("delayed input keeps to the block grid", {
  skip_if_not_installed("DelayedArray")
  size <- DelayedArray::getAutoBlockSize()
  withr::defer(suppressMessages(DelayedArray::setAutoBlockSize(size)))
  suppressMessages(DelayedArray::setAutoBlockSize(2 * 4 * n_spots))
  input <- as_input(DelayedArray::DelayedArray(counts), coords)
  expect_identical(gene_blocks(input), list(1:2, 3:4, 5:6, 7L))

  skip_if_not_installed("HDF5Array")
  file <- withr::local_tempfile(fileext = ".h5")
  # whole chunks, even if one is a little more than a block
  stored <- HDF5Array::writeHDF5Array(counts, file, "counts", chunkdim = c(3L, 2L))
  expect_identical(gene_blocks(as_input(stored, coords)), list(1:3, 4:6, 7L))
})

test_that("an assay on disk stays there", {
  skip_if_not_installed("HDF5Array")
  file <- withr::local_tempfile(fileext = ".h5")
  x <- HDF5Array::writeHDF5Array(counts, file, with.dimnames = TRUE)
  se <- SummarizedExperiment::SummarizedExperiment(list(counts = x))
  for (input in list(as_input(x, coords), as_input(se, coords))) {
    expect_s4_class(input$values, "DelayedMatrix")
    expect_identical(input_block(input, c(3, 1)), dense_block)
    in_memory <- new_normalizer(as_input(counts, coords))
    expect_identical(
      new_normalizer(input)(dense_block, c(3, 1)),
      in_memory(dense_block, c(3, 1))
    )
  }
})

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

test_that("columns that are not numbers are named", {
  table <- as.data.frame(t(counts))
  expect_snapshot(as_input(cbind(spot = rownames(table), table), coords), error = TRUE)
  expect_snapshot(as_input(cbind(table, cluster = factor("a"), note = "b"), coords), error = TRUE)
  expect_error(
    as_input(as.matrix(cbind(spot = rownames(table), table)), coords),
    class = "patina_error_input"
  )
  expect_error(as_input(list(1), coords), class = "patina_error_input")
  expect_error(as_input(counts[0, ], coords), "no genes", class = "patina_error_input")
  expect_length(as_input(counts[1, , drop = FALSE], coords)$genes, 1)
})

test_that("grouped tibbles are taken without their groups", {
  skip_if_not_installed("dplyr")
  grouped <- dplyr::group_by(tibble::as_tibble(t(counts)), g1)
  expect_identical(input_block(as_input(grouped, coords), c(3, 1)), dense_block)
  expect_identical(
    as_input(counts, dplyr::group_by(tibble::as_tibble(coords), x))$coords,
    as_input(counts, coords)$coords
  )
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

test_that("duplicated gene names warn and keep their rows", {
  expect_warning(
    input <- as_input(counts[c(1, 1, 2), ], coords),
    class = "patina_warning_duplicated_genes"
  )
  expect_identical(input$genes, c("g1", "g1", "g2"))
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

test_that("a SummarizedExperiment gives its colData, and coordinates by column name", {
  skip_if_not_installed("SummarizedExperiment")
  se <- SummarizedExperiment::SummarizedExperiment(
    list(raw = counts, twice = 2 * counts),
    colData = S4Vectors::DataFrame(coords, slide = rep(c("a", "b"), 6))
  )
  input <- as_input(se, c("x", "y"), assay = "raw", sample_id = "slide")
  expect_identical(input$coords, unname_rows(as.matrix(coords)))
  expect_identical(input$samples$slide, rep(c("a", "b"), 6))
  expect_identical(levels(input$sample_id), c("a", "b"))
  expect_identical(input_block(as_input(se, coords, assay = 2), c(3, 1)), 2 * dense_block)
  expect_snapshot(as_input(se, c("x", "y")), error = TRUE)
  expect_snapshot(as_input(se, c("x", "array_row"), assay = "raw"), error = TRUE)
  expect_error(as_input(se, assay = "raw"), class = "patina_error_coords")
})

test_that("a SpatialExperiment carries coordinates and samples", {
  skip_if_not_installed("SpatialExperiment")
  spe <- SpatialExperiment::SpatialExperiment(
    list(counts = counts),
    spatialCoords = as.matrix(coords),
    sample_id = rep(c("a", "b"), 6)
  )
  input <- as_input(spe)
  expect_identical(input$coords, unname_rows(as.matrix(coords)))
  expect_identical(levels(input$sample_id), c("a", "b"))
  expect_identical(as_input(spe, coords * 2)$coords, unname_rows(as.matrix(coords * 2)))
})

test_that("the advice for a column of names works for a data.frame, a tibble and a data.table", {
  counts <- fake_tissue()$counts
  coords <- fake_tissue()$coords
  by_gene <- data.frame(gene = rownames(counts), counts, check.names = FALSE)
  by_spot <- data.frame(barcode = colnames(counts), t(counts), check.names = FALSE)
  kinds <- list(identity, tibble::as_tibble)
  if (rlang::is_installed("data.table")) {
    kinds <- c(kinds, list(data.table::as.data.table))
  }
  expected <- spatial_test(counts, coords, threads = 1)
  for (as_kind in kinds) {
    for (table in list(by_gene, by_spot)) {
      x <- as_kind(table)
      error <- expect_error(
        spatial_test(x, coords),
        "Move it into the row names",
        class = "patina_error_input"
      )
      advice <- cli::ansi_strip(paste(c(conditionMessage(error)), collapse = " "))
      code <- sub(".*row names:\\s*.(x <- .*check.names = FALSE\\)*).*", "\\1", gsub("\n", " ", advice))
      eval(parse(text = gsub("[`.]*$", "", code)))
      expect_identical(spatial_test(x, coords, threads = 1), expected)
    }
  }
})

test_that("logical matrices count as 0 and 1, dense as well as sparse", {
  seen <- fake_tissue()$counts > 3
  test <- \(x) spatial_test(x, fake_tissue()$coords, normalization = "none", threads = 1)
  expect_identical(test(seen), test(seen * 1))
  expect_identical(test(Matrix::Matrix(seen, sparse = TRUE)), test(seen * 1))
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

n_spots <- 12
counts <- few_counts()
coords <- few_coords()

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
  # enough of them for several workers, but no chunk is cut
  suppressMessages(DelayedArray::setAutoBlockSize(size))
  expect_identical(gene_blocks(as_input(stored, coords)), list(1:7))
  for (most in c(1, 4)) {
    expect_identical(gene_blocks(as_input(stored, coords), most = most), list(1:3, 4:6, 7L))
  }
  expect_identical(gene_blocks(as_input(counts, coords), most = 4), list(1:4, 5:7))
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

test_that("duplicated gene names warn and keep their rows", {
  expect_warning(
    input <- as_input(counts[c(1, 1, 2), ], coords),
    class = "patina_warning_duplicated_genes"
  )
  expect_identical(input$genes, c("g1", "g1", "g2"))
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
    kinds <- c(kinds, list(getExportedValue("data.table", "as.data.table")))
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

# A table of 30 genes and 2,500 spots, sparse, with an empty gene and an empty spot.
sparse_table <- function(genes = 30L, spots = 2500L, named = TRUE) {
  withr::local_seed(1)
  counts <- Matrix::rsparsematrix(genes, spots, 0.2, rand.x = \(n) 1 + rpois(n, 1))
  counts <- counts * outer(seq_len(genes) != 7L, seq_len(spots) != 9L)
  if (named) {
    dimnames(counts) <- list(paste0("g", seq_len(genes)), paste0("s", seq_len(spots)))
  }
  methods::as(Matrix::drop0(counts), "CsparseMatrix")
}

# The file that 10x Genomics' programs write.
write_tenx <- function(counts, file) {
  rhdf5::h5createFile(file)
  rhdf5::h5createGroup(file, "matrix")
  rhdf5::h5createGroup(file, "matrix/features")
  parts <- list(
    data = as.integer(counts@x),
    indices = counts@i,
    indptr = counts@p,
    shape = dim(counts),
    barcodes = colnames(counts),
    "features/id" = rownames(counts)
  )
  for (name in names(parts)) {
    rhdf5::h5write(parts[[name]], file, paste0("matrix/", name))
  }
  # where both packages share one HDF5, writing may have turned off the errors that the reader looks for
  rhdf5::h5errorHandling()
  HDF5Array::TENxMatrix(file, "matrix")
}

# Values and the ranges of spots that were asked for.
counted_source <- function(counts) {
  asked <- list()
  list(
    read = function(spots) {
      asked[[length(asked) + 1L]] <<- spots
      counts[, spots, drop = FALSE]
    },
    asked = \() asked
  )
}

test_that("values stored by spot are read once if memory has room, else once more for each part", {
  counts <- sparse_table(named = FALSE)
  by_gene <- Matrix::t(counts)
  n <- length(counts@x)
  for (case in list(
    list(most = 2 * n, passes = 1),
    list(most = n + 1, passes = 2),
    list(most = n / 3, passes = 4)
  )) {
    source <- counted_source(counts)
    stored <- file_by_gene(source$read, 30L, 2500L, most = case$most, block = n / 10)
    input <- c(stored, list(n_spots = 2500L, genes = paste0("g", 1:30)))
    expect_identical(stored$storage, if (case$passes < 4) "sparse" else "by_spot")
    # a walk over the genes, however they are cut
    blocks <- if (case$passes < 4) list(1:30) else list(1:7, 8:9, 10:26, 27:30)
    read <- lapply(blocks, \(genes) input_sparse_block(input, genes))
    for (i in seq_along(blocks)) {
      expect_identical(read[[i]], by_gene[, blocks[[i]], drop = FALSE])
      expect_true(methods::validObject(read[[i]]))
    }
    expect_length(unlist(source$asked()), case$passes * 2500L)
    expect_identical(input_block(input, c(29L, 2L, 7L, 30L, 1L)), as.matrix(by_gene[, c(29, 2, 7, 30, 1)]))
    expect_identical(unlist(sparse_blocks(input, max_entries = 1500)), 1:30)
    sent <- worker_input(input, c(28L, 3L))
    expect_identical(sent$storage, "sparse")
    expect_identical(input_block(sent, 1:2), input_block(input, c(28L, 3L)))
  }
})

test_that("a table of any number of spots is cut into whole blocks", {
  for (spots in c(1L, 999L, 1000L, 1001L, 2400L)) {
    counts <- sparse_table(5L, spots, named = FALSE)
    source <- counted_source(counts)
    stored <- file_by_gene(source$read, 5L, spots, most = 1e9, block = 300)
    expect_identical(stored, list(values = Matrix::t(counts), storage = "sparse"))
    expect_identical(unlist(source$asked()), seq_len(spots))
  }
})

# The input with other values, tested.
fit_stored <- function(input, stored = input, workers = NULL) {
  input[c("values", "storage")] <- stored[c("values", "storage")]
  run <- new_run(1L, workers, call = NULL)
  settings <- new_settings(size_factors = "none")
  prepared <- list(
    input = input,
    normalizer = new_normalizer(input, settings, run),
    settings = settings,
    run = run
  )
  kernels <- kernel_table("SE", c(0.05, 0.2), input, NULL)
  fit_genes(prepare_fitter(input, kernels, calibrated = TRUE, approximation = "auto", run), prepared)
}

test_that("a large dgCMatrix is turned in parts, with the same results", {
  counts <- sparse_table(12L, 400L)
  input <- as_input(counts, withr::with_seed(2, matrix(runif(800), 400L)))
  parts <- matrix_by_gene(counts, most = 200)
  expect_identical(parts$storage, "by_spot")
  whole <- fit_stored(input)
  expect_identical(fit_stored(input, parts), whole)
  skip_if_not_installed("BiocParallel")
  expect_identical(fit_stored(input, parts, BiocParallel::SerialParam()), whole)
})

test_that("10x Genomics' files, and what is made of them, give the results of a matrix in memory", {
  skip_if_not_installed("HDF5Array")
  skip_if_not_installed("SpatialExperiment")
  counts <- sparse_table(12L, 1500L)
  file <- withr::local_tempfile(fileext = ".h5")
  stored <- write_tenx(counts, file)
  expect_s4_class(stored, "TENxMatrix")
  coords <- withr::with_seed(2, matrix(runif(3000), 1500L, dimnames = list(colnames(counts), c("x", "y"))))
  experiment <- \(counts) {
    spe <- SpatialExperiment::SpatialExperiment(assays = list(counts = counts), spatialCoords = coords)
    # as users do: some genes, and the spots under the tissue
    list(spe, spe[c(2:8, 11), seq(1, 1500, by = 2)])
  }
  test <- \(x, ...) {
    suppressMessages(spatial_test(x, ..., size_factors = "none", threads = 1, progress = FALSE))
  }
  of_files <- experiment(stored)
  in_memory <- experiment(counts)
  for (i in seq_along(of_files)) {
    expect_identical(as_input(of_files[[i]])$storage, "sparse")
    expect_identical(test(of_files[[i]]), test(in_memory[[i]]))
  }
  expect_identical(test(stored, coords), test(counts, coords))
  # two slides
  halves <- list(1:700, 701:1500)
  bound <- do.call(DelayedArray::cbind, lapply(halves, \(spots) stored[, spots]))
  slides <- rep(1:2, lengths(halves))
  whole <- test(counts, coords, sample_id = slides)
  expect_identical(test(bound, coords, sample_id = slides), whole)
  # too large for memory
  input <- as_input(counts, coords, sample_id = slides)
  parts <- file_by_gene(\(spots) methods::as(bound[, spots], "dgCMatrix"), 12L, 1500L, most = 1500)
  expect_identical(parts$storage, "by_spot")
  expect_identical(fit_stored(input, parts), fit_stored(input))
})

test_that("which way values are stored is seen through what was done to them", {
  skip_if_not_installed("HDF5Array")
  counts <- sparse_table(12L, 30L)
  stored <- write_tenx(counts, withr::local_tempfile(fileext = ".h5"))
  for (x in list(stored, DelayedArray::DelayedArray(counts))) {
    for (same in list(
      x,
      x[2:5, ],
      x[, 3:9],
      x[2:5, 3:9],
      DelayedArray::cbind(x, x),
      DelayedArray::rbind(x, x),
      x * 2,
      DelayedArray::t(DelayedArray::t(x)[2:5, ])
    )) {
      expect_true(delayed_by_spot(same))
      expect_false(delayed_by_spot(DelayedArray::t(same)))
    }
    expect_false(delayed_by_spot(x + 1))
  }
  dense <- HDF5Array::writeHDF5Array(
    as.matrix(counts),
    withr::local_tempfile(fileext = ".h5"),
    chunkdim = c(4L, 5L)
  )
  for (x in list(dense, dense[2:3, 4:9])) {
    expect_false(delayed_by_spot(x))
    expect_false(delayed_by_spot(DelayedArray::t(x)))
  }
})

test_that("blocks, threads and workers change nothing", {
  tissue <- small_tissue()
  plain <- fit_tissue(tissue)
  small_blocks()
  expect_identical(fit_tissue(tissue), plain)
  skip_if_not_installed("BiocParallel")
  folder <- local_empty_tempdir()
  expect_identical(fit_tissue(tissue, BPPARAM = BiocParallel::SerialParam()), plain)
  expect_empty(folder)
})

test_that("what was read before a file vanished is kept", {
  skip_if_not_installed("HDF5Array")
  small_blocks()
  small <- small_fitter(\(block, genes, threads) block)
  good <- fit_all(small)
  tissue <- small_tissue()
  vanishing <- function() {
    file <- withr::local_tempfile(fileext = ".h5", .local_envir = parent.frame())
    small$prepared$input <- as_input(
      HDF5Array::writeHDF5Array(tissue$y, file, "y", chunkdim = c(2L, 40L), with.dimnames = TRUE),
      tissue$coords
    )
    small$prepared$normalizer <- function(block, genes, threads) {
      unlink(file)
      block
    }
    list(small = small, file = file)
  }
  # delayed input keeps to its own size of blocks
  withr::defer(suppressMessages(DelayedArray::setAutoBlockSize(1e8)))
  suppressMessages(DelayedArray::setAutoBlockSize(2 * 8 * 40))
  expect_warning(
    fits <- fit_all(vanishing()$small),
    "4 genes in 2 blocks failed.*g3.*Values of `x` cannot be read",
    class = "patina_warning_failed_genes"
  )
  expect_identical(fits$status, c("ok", "ok", rep("failed", 4)))
  expect_identical(fits$llr[1:2], good$llr[1:2])

  gone <- vanishing()
  unlink(gone$file)
  expect_error(fit_all(gone$small), "`x` cannot be read", class = "patina_error_reading")
  expect_error(
    summarize_counts(gone$small$prepared$input),
    "`x` cannot be read",
    class = "patina_error_reading"
  )
})

test_that("an HDF5-backed SpatialExperiment of several samples gives what its matrix gives", {
  skip_if_not_installed("SpatialExperiment")
  skip_if_not_installed("HDF5Array")
  skip_if_not_installed("BiocParallel")
  withr::local_seed(2)
  # samples in turns, so that spots have to be put in order
  sample_id <- rep(c("b", "a"), 40)
  coords <- as.matrix(expand.grid(x = 1:10, y = 1:8))
  counts <- matrix(stats::rnbinom(9 * 80, mu = 4, size = 2), 9)
  counts[2, ] <- stats::rpois(80, 2 * coords[, 1])
  dimnames(counts) <- list(paste0("g", 1:9), paste0("s", 1:80))
  file <- withr::local_tempfile(fileext = ".h5")
  stored <- HDF5Array::writeHDF5Array(counts, file, "counts", chunkdim = c(2L, 30L))
  spe <- SpatialExperiment::SpatialExperiment(
    list(counts = stored),
    colData = S4Vectors::DataFrame(sample_id = sample_id, row.names = colnames(counts)),
    spatialCoords = coords
  )
  rownames(spe) <- rownames(counts)
  sparse <- Matrix::Matrix(counts, sparse = TRUE)
  test <- \(...) spatial_test(..., normalization = "pearson", threads = 2, progress = FALSE)
  expected <- test(counts, coords, sample_id = sample_id)
  expect_identical(attr(expected, "patina")$samples, 2L)
  expect_lt(expected$pval[2], 1e-4)
  small_blocks()
  withr::defer(suppressMessages(DelayedArray::setAutoBlockSize(1e8)))
  suppressMessages(DelayedArray::setAutoBlockSize(8 * 80 * 4))
  expect_identical(test(sparse, coords, sample_id = sample_id), expected)
  expect_identical(test(spe), expected)
  expect_identical(test(spe, BPPARAM = BiocParallel::SerialParam()), expected)
})

test_that("approximations agree with the exact decomposition, and say what they did", {
  tissue <- example_tissue(n_spots = 1500, n_genes = 30)
  test <- \(approximation) {
    spatial_test(
      tissue$counts,
      tissue$sample_info[c("x", "y")],
      lengthscales = c(2, 5, 15),
      approximation = approximation,
      threads = 2,
      progress = FALSE
    )
  }
  exact <- test("exact")
  auto <- test("auto")
  expect_gt(max(exact$llr), 100)
  expect_identical(auto$status, rep("ok", 30))
  expect_true(all(abs(auto$llr - exact$llr) <= 0.02 + 1e-4 * exact$llr))
  expect_equal(auto$log10_pval, exact$log10_pval, tolerance = 1e-6)
  expect_identical(attr(auto, "patina")$approximation, "auto")
  kernels <- attr(auto, "patina")$kernels
  expect_named(kernels, c("model", "lengthscale", "engine", "rank", "error_bound"))
  expect_identical(kernels$engine, c("dense", "pivoted_cholesky", "pivoted_cholesky"))
  expect_true(all(kernels$rank[2:3] < 750))
  expect_true(all(kernels$error_bound < 1e-6))
  expect_identical(attr(exact, "patina")$kernels$engine, rep("dense", 3))
  expect_match(tibble::tbl_sum(auto), "2 approximated by pivoted_cholesky", all = FALSE)
  expect_no_match(tibble::tbl_sum(exact), "approximated")
})

test_that("a gene that does not converge keeps its row and its p-value, and changes no other", {
  coords <- expand.grid(x = 1:20, y = 1:20)
  wave <- sin(coords$x / 3)
  y <- withr::with_seed(1, rbind(noise = rnorm(400), pure = wave, mixed = wave + rnorm(400)))
  # longer ones are decomposed densely
  test <- \(y, ...) {
    fit_tissue(list(y = y, coords = coords), approximation = "krylov", lengthscales = c(0.5, 1.3), ...)
  }
  results <- test(y)
  expect_identical(results$gene, rownames(y))
  expect_identical(results$status, c("ok", "not converged", "ok"))
  fit <- c("model", "lengthscale", "fsv", "fsv_se", "llr", "delta", "mean", "loglik", "loglik_null", "bic")
  expect_true(all(is.na(results[2, fit])))
  expect_lt(results$pval[2], 1e-20)
  expect_false(anyNA(results[c(1, 3), c("llr", "pval", "qval")]))
  expect_equal(test(y[c(1, 3), ])$llr, results$llr[c(1, 3)])
  expect_match(tibble::tbl_sum(results), "1 not converged", all = FALSE)
  # without a p-value of its own it has none
  expect_true(is.na(test(y, pval_method = "spatialde")$pval[2]))
})

test_that("p-values are uniform under permutation within samples", {
  withr::local_seed(3)
  # three lattices of different sizes, levels and spreads
  coords <- rbind(
    expand.grid(x = 1:8, y = 1:8),
    expand.grid(x = 1:10, y = 1:8),
    expand.grid(x = 1:9, y = 1:6)
  )
  sizes <- c(64, 80, 54)
  sample_id <- rep(c("a", "b", "c"), sizes)
  level <- rep(1:3, sizes)
  # every sample has its gradient, until it is permuted
  gene <- \() (stats::rnorm(198) + coords$x / 3) * level + level^2
  genes <- replicate(3000, stats::ave(gene(), sample_id, FUN = sample))
  test <- \(y) {
    spatial_test(t(y), coords, sample_id = sample_id, normalization = "none", threads = 2, progress = FALSE)
  }
  null <- test(genes)$pval
  for (share in c(0.5, 0.2, 0.05)) {
    expect_lt(abs(mean(null < share) / share - 1), 0.2)
  }
  # one gene, one p-value, from all samples together
  spatial <- cbind(genes[, 1] + 3 * sin(coords$y))
  expect_identical(nrow(test(spatial)), 1L)
  expect_lt(test(spatial)$pval, 1e-4)
})

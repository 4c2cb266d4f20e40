fit_small <- function(tissue, ..., coords = tissue$coords) {
  spatial_test(tissue$y, coords, normalization = "none", threads = 2, progress = FALSE, ...)
}

# Blocks of 2 genes: small_tissue() has 6.
small_blocks <- function(frame = parent.frame()) {
  withr::local_options(patina.block_genes = 2, .local_envir = frame)
}

# An input, its kernels and a normalizer that workers will run.
small_fitter <- function(normalizer) {
  tissue <- small_tissue()
  run <- new_run(threads = 1, call = NULL)
  # the worker finds nothing of this test
  environment(normalizer) <- globalenv()
  prepared <- list(input = as_input(tissue$y, tissue$coords), normalizer = normalizer, run = run)
  kernels <- kernel_table("SE", 1:2, prepared$input, NULL)
  list(
    prepared = prepared,
    fitter = prepare_fitter(prepared$input, kernels, calibrated = TRUE, approximation = "auto", run)
  )
}

fit_all <- function(small, workers = NULL) {
  small$prepared$run <- new_run(threads = 1, workers, call = NULL)
  fit_genes(small$fitter, small$prepared)
}

# Of three blocks of two genes.
expect_second_block_failed <- function(fits, good) {
  expect_identical(fits$status, c("ok", "ok", "failed", "failed", "ok", "ok"))
  for (field in names(fits)) {
    expect_identical(fits[[field]][c(1, 2, 5, 6)], good[[field]][c(1, 2, 5, 6)])
    if (field != "status") expect_true(all(is.na(fits[[field]][3:4])))
  }
}

# A block that kills whoever works on it is lost, and no other.
expect_killed_block <- function(workers) {
  killed <- small_fitter(\(block, genes, threads) if (3 %in% genes) tools::pskill(Sys.getpid(), 9) else block)
  expect_warning(
    fits <- fit_all(killed, workers),
    "2 genes in 1 block failed.*g3.*g4.*worker ended",
    class = "patina_warning_failed_genes"
  )
  expect_second_block_failed(fits, fit_all(small_fitter(\(block, genes, threads) block)))
}

# The temporary folder of a test, empty at its end.
local_empty_tempdir <- function(frame = parent.frame()) {
  folder <- withr::local_tempdir(.local_envir = frame)
  withr::local_options(patina.tempdir = folder, .local_envir = frame)
  folder
}

expect_empty <- function(folder) {
  expect_identical(list.files(folder, recursive = TRUE, include.dirs = TRUE), character())
}

test_that("blocks, threads and workers change nothing", {
  tissue <- small_tissue()
  plain <- fit_small(tissue)
  small_blocks()
  expect_identical(fit_small(tissue), plain)
  skip_if_not_installed("BiocParallel")
  folder <- local_empty_tempdir()
  expect_identical(fit_small(tissue, BPPARAM = BiocParallel::SerialParam()), plain)
  expect_empty(folder)
})

test_that("forked workers give the same results", {
  skip_if_not_installed("BiocParallel")
  skip_on_os("windows")
  small_blocks()
  folder <- local_empty_tempdir()
  tissue <- small_tissue()
  workers <- BiocParallel::MulticoreParam(2)
  expect_identical(fit_small(tissue, BPPARAM = workers), fit_small(tissue))
  expect_false(BiocParallel::bpisup(workers))
  coords <- tissue$coords
  models <- \(...) {
    model_search(tissue$y, coords, c("g5", "g2"), normalization = "none", threads = 1, progress = FALSE, ...)
  }
  expect_identical(models(BPPARAM = workers), models())
  expect_empty(folder)
  # it did ask the workers, who need a folder
  withr::local_options(patina.tempdir = file.path(folder, "missing"))
  expect_error(models(BPPARAM = workers), class = "patina_error_tempdir")
})

test_that("workers in processes of their own read the spectra; failures and deaths are told apart", {
  skip_if_not_installed("BiocParallel")
  small_blocks()
  folder <- local_empty_tempdir()
  workers <- BiocParallel::SnowParam(2)
  BiocParallel::bpstart(workers)
  withr::defer(suppressWarnings(try(BiocParallel::bpstop(workers), silent = TRUE)))

  tissue <- small_tissue()
  expect_identical(fit_small(tissue, BPPARAM = workers), fit_small(tissue))
  expect_empty(folder)

  broken <- small_fitter(\(block, genes, threads) if (3 %in% genes) stop("no memory") else block)
  expect_warning(
    fits <- fit_all(broken, workers),
    "2 genes in 1 block failed.*g3.*g4.*no memory",
    class = "patina_warning_failed_genes"
  )
  good <- fit_all(small_fitter(\(block, genes, threads) block))
  expect_second_block_failed(fits, good)
  expect_error(
    fit_all(small_fitter(\(block, genes, threads) stop("no disk")), workers),
    "fitted no gene.*no disk",
    class = "patina_error_workers"
  )
  expect_true(BiocParallel::bpisup(workers))
  expect_empty(folder)

  expect_killed_block(workers)
  expect_empty(folder)
  # the user's workers are up again, and whole
  expect_true(BiocParallel::bpisup(workers))
  expect_identical(fit_small(tissue, BPPARAM = workers), fit_small(tissue))
})

test_that("a worker that is killed costs the genes of one block", {
  skip_if_not_installed("BiocParallel")
  skip_on_os("windows")
  small_blocks()
  folder <- local_empty_tempdir()
  workers <- BiocParallel::MulticoreParam(2)
  expect_killed_block(workers)
  expect_false(BiocParallel::bpisup(workers))
  expect_empty(folder)
  whole <- small_fitter(\(block, genes, threads) block)
  expect_identical(fit_all(whole, workers), fit_all(whole))
})

test_that("what a dead worker was at is tried once more", {
  skip_if_not_installed("BiocParallel")
  skip_on_os("windows")
  small_blocks()
  folder <- local_empty_tempdir()
  workers <- BiocParallel::MulticoreParam(2)
  marker <- withr::local_tempfile()
  once <- eval(bquote(\(block, genes, threads) {
    if (3 %in% genes && !file.exists(.(marker))) {
      file.create(.(marker))
      tools::pskill(Sys.getpid(), 9)
    }
    block
  }))
  expect_no_warning(fits <- fit_all(small_fitter(once), workers))
  expect_true(file.exists(marker))
  expect_identical(fits, fit_all(small_fitter(\(block, genes, threads) block)))
  expect_empty(folder)
})

test_that("a finished fit is kept in its file, and one that cannot be written is returned", {
  folder <- withr::local_tempdir()
  small <- small_fitter(\(block, genes, threads) block)
  shared <- list(
    folder = folder,
    spectra = write_spectra(small$fitter$test, folder, NULL),
    fitter = small$fitter["spots"],
    normalizer = small$prepared$normalizer,
    run = list(threads = 1L)
  )
  withr::defer(forget_spectra(folder))
  task <- list(id = 7L, genes = 1:2, input = worker_input(small$prepared$input, 1:2))
  fit <- fit_task(task, shared)
  expect_identical(read_fit(task, folder), fit)
  expect_null(read_fit(list(id = 8L), folder))
  shared$folder <- file.path(folder, "missing")
  expect_identical(fit_task(task, shared), fit)
})

test_that("nobody else can read what is written for workers", {
  skip_on_os("windows")
  withr::local_options(patina.tempdir = withr::local_tempdir())
  small <- small_fitter(\(block, genes, threads) block)
  folder <- spectra_folder(NULL)
  withr::defer(forget_spectra(folder))
  spectra <- write_spectra(small$fitter$test, folder, NULL)
  expect_identical(format(file.mode(c(folder, spectra$path))), c("700", "600"))
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
      HDF5Array::writeHDF5Array(tissue$y, file, "y", chunkdim = c(2L, 40L)),
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
    "4 genes in 2 blocks failed.*gene3.*Values of `x` cannot be read",
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

test_that("options that make no sense are named", {
  tissue <- small_tissue()
  for (wrong in list("a", NA, 1e12, c(10, 20), 0)) {
    withr::local_options(patina.block_genes = wrong)
    expect_error(fit_small(tissue), "patina.block_genes.*whole number", class = "patina_error_argument")
  }
  withr::local_options(patina.block_genes = NULL, patina.tempdir = 7)
  skip_if_not_installed("BiocParallel")
  expect_error(
    fit_small(tissue, BPPARAM = BiocParallel::SerialParam()),
    "patina.tempdir.*folder",
    class = "patina_error_tempdir"
  )
})

test_that("more threads than cores are not started", {
  expect_message(threads <- resolve_threads(5000, cores = 4L), "4 cores", class = "patina_message")
  expect_identical(threads, 4L)
  expect_identical(suppressMessages(resolve_threads(3e9, cores = 4L)), 4L)
  expect_silent(resolve_threads(2, cores = 1L))
  expect_identical(resolve_threads(cores = NA), if (is.null(getOption("patina.threads"))) 1L else 2L)
  expect_error(resolve_threads(Inf), "threads", class = "patina_error_argument")
})

test_that("jobs of a cluster give the same results", {
  skip_if_not_installed("BiocParallel")
  skip_if_not_installed("batchtools")
  skip_on_cran()
  small_blocks()
  folder <- local_empty_tempdir()
  tissue <- small_tissue()
  registry <- withr::local_tempfile()
  workers <- BiocParallel::BatchtoolsParam(
    2,
    cluster = "socket",
    registryargs = BiocParallel::batchtoolsRegistryargs(file.dir = registry)
  )
  said <- utils::capture.output(fit <- fit_small(tissue, BPPARAM = workers), type = "message")
  expect_identical(fit, fit_small(tissue))
  expect_false(BiocParallel::bpisup(workers))
  expect_empty(folder)
  expect_false(file.exists(registry))
})

test_that("a folder that cannot be written to is an error", {
  skip_if_not_installed("BiocParallel")
  file <- withr::local_tempfile(lines = "no folder")
  missing <- file.path(withr::local_tempdir(), "missing")
  # not even root may write to the last
  for (folder in c(file, missing, if (dir.exists("/proc")) "/proc")) {
    withr::local_options(patina.tempdir = folder)
    expect_error(
      fit_small(small_tissue(), BPPARAM = BiocParallel::SerialParam()),
      paste0(basename(folder), ".*patina.tempdir"),
      class = "patina_error_tempdir"
    )
  }
  expect_identical(readLines(file), "no folder")
})

test_that("a full disk is an error, and leaves nothing behind", {
  skip_if_not(file.exists("/dev/full"), "there is no device that is always full")
  folder <- withr::local_tempdir()
  small <- small_fitter(\(block, genes, threads) block)
  # the name under which the core writes before the file is complete
  partial <- file.path(folder, sprintf("spectra.bin.%d.partial", Sys.getpid()))
  file.symlink("/dev/full", partial)
  expect_error(
    write_spectra(small$fitter$test, folder, NULL),
    "No space left.*patina.tempdir",
    class = "patina_error_tempdir"
  )
  expect_empty(folder)
})

test_that("an interrupt leaves no files", {
  skip_if_not_installed("BiocParallel")
  folder <- local_empty_tempdir()
  stopped <- small_fitter(\(block, genes, threads) rlang::interrupt())
  result <- tryCatch(fit_all(stopped, BiocParallel::SerialParam()), interrupt = \(cnd) "interrupted")
  expect_identical(result, "interrupted")
  expect_empty(folder)
})

test_that("BPPARAM must be BiocParallel's", {
  skip_if_not_installed("BiocParallel")
  expect_error(fit_small(small_tissue(), BPPARAM = 2), "numeric", class = "patina_error_argument")
})

test_that("what is sent to workers is small", {
  small <- small_tissue(n = 100, genes = 200)
  input <- as_input(exp(small$y) |> round(), small$coords)
  normalizers <- list(
    new_normalizer(input, new_settings("anscombe")),
    new_normalizer(input),
    new_normalizer(input, new_settings("none", ~ seq(100)))
  )
  for (normalizer in normalizers) {
    expect_lt(length(serialize(only_function(normalizer), NULL)), 2e4)
  }
  sent <- worker_input(input, 1:2)
  expect_lt(length(serialize(sent, NULL)), 2e3)

  skip_if_not_installed("HDF5Array")
  file <- withr::local_tempfile(fileext = ".h5")
  stored <- HDF5Array::writeHDF5Array(small$y, file, "y", with.dimnames = TRUE)
  on_file <- as_input(stored, small$coords)
  expect_s4_class(worker_input(on_file, 1:100)$values, "DelayedMatrix")
  expect_lt(length(serialize(worker_input(on_file, 1:100), NULL)), 2e4)
  in_memory <- as_input(DelayedArray::DelayedArray(small$y) + 1, small$coords)
  expect_identical(worker_input(in_memory, 1:2)$storage, "dense")
  for (input in list(on_file, in_memory)) {
    expect_identical(input_block(worker_input(input, 3:4), 1:2), input_block(input, 3:4))
  }
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
  test <- \(y, ...) fit_small(list(y = y, coords = coords), approximation = "krylov", ...)
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

test_that("an approximation that cannot serve is refused", {
  tissue <- small_tissue()
  genes <- rownames(tissue$y)
  expect_error(fit_small(tissue, approximation = "fast"), "must be one of")
  expect_error(
    fit_small(tissue, approximation = "krylov", kernels = c("SE", "linear")),
    "krylov.*cannot serve.*linear",
    class = "patina_error_approximation"
  )
  expect_error(
    model_search(tissue$y, tissue$coords, genes, normalization = "none", approximation = "krylov"),
    "krylov.*cannot serve.*PER",
    class = "patina_error_approximation"
  )
  kernels <- kernel_table("SE", 1:10, as_input(tissue$y, tissue$coords), NULL)
  expect_error(
    check_approximation("exact", kernels, c(3e4, 1e4), new_run(2), available = 1e9),
    "40000 spots and 10 kernels.*128.0 GB; 1.0 GB",
    class = "patina_error_approximation"
  )
  expect_silent(check_approximation("exact", kernels, 4e4, new_run(2), available = Inf))
  expect_gt(available_memory(), 1e6)
  expect_identical(fit_small(tissue)$status, rep("ok", 6))
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

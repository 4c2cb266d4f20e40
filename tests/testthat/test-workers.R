test_that("forked workers give the same results", {
  skip_if_not_installed("BiocParallel")
  skip_on_os("windows")
  small_blocks()
  folder <- local_empty_tempdir()
  tissue <- small_tissue()
  workers <- BiocParallel::MulticoreParam(2)
  expect_identical(fit_tissue(tissue, BPPARAM = workers), fit_tissue(tissue))
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
  expect_identical(fit_tissue(tissue, BPPARAM = workers), fit_tissue(tissue))
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
  expect_identical(fit_tissue(tissue, BPPARAM = workers), fit_tissue(tissue))
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

test_that("threads are bounded by the cores of the machine that has them", {
  skip_if_not_installed("BiocParallel")
  run <- function(threads, workers) suppressMessages(new_run(threads, workers))
  elsewhere <- BiocParallel::SnowParam(c("one", "two", "three"))
  expect_identical(threads_each(run(3e5, elsewhere)), 100000L)
  expect_lte(run(3e5, elsewhere)$threads, max(2L, parallel::detectCores()))
  expect_lte(threads_each(run(3e5, BiocParallel::SnowParam(2))), max(1L, parallel::detectCores() %/% 2L))
  expect_identical(threads_each(run(NULL, BiocParallel::SnowParam(1000))), 1L)
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
  said <- utils::capture.output(fit <- fit_tissue(tissue, BPPARAM = workers), type = "message")
  expect_identical(fit, fit_tissue(tissue))
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
      fit_tissue(small_tissue(), BPPARAM = BiocParallel::SerialParam()),
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
  expect_error(fit_tissue(small_tissue(), BPPARAM = 2), "numeric", class = "patina_error_argument")
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

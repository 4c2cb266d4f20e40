# What goes wrong outside: files, processes and memory.

test_that("what was read before a file was cut in the middle is kept", {
  skip_if_not_installed("HDF5Array")
  small_blocks()
  tissue <- small_tissue()
  file <- withr::local_tempfile(fileext = ".h5")
  values <- HDF5Array::writeHDF5Array(tissue$y, file, "y", chunkdim = c(2L, 40L), with.dimnames = TRUE)
  small <- small_fitter(\(block, genes, threads) block)
  good <- fit_all(small)
  small$prepared$input <- as_input(values, tissue$coords)
  small$prepared$normalizer <- function(block, genes, threads) {
    content <- readBin(file, raw(), file.size(file))
    writeBin(content[seq_len(length(content) %/% 3)], file)
    block
  }
  # delayed input keeps to its own size of blocks
  withr::defer(suppressMessages(DelayedArray::setAutoBlockSize(1e8)))
  suppressMessages(DelayedArray::setAutoBlockSize(2 * 8 * 40))
  expect_warning(
    fits <- fit_all(small),
    "4 genes in 2 blocks failed.*g3.*Values of `x` cannot be read",
    class = "patina_warning_failed_genes"
  )
  expect_identical(fits$status, c("ok", "ok", rep("failed", 4)))
  expect_identical(fits$llr[1:2], good$llr[1:2])
})

test_that("a job of a cluster that is killed costs the genes of one block", {
  skip_if_not_installed("BiocParallel")
  skip_if_not_installed("batchtools")
  skip_on_os("windows")
  skip_on_cran()
  small_blocks()
  folder <- local_empty_tempdir()
  workers <- BiocParallel::BatchtoolsParam(
    2,
    cluster = "multicore",
    registryargs = BiocParallel::batchtoolsRegistryargs(file.dir = withr::local_tempfile())
  )
  # what parallel says of it
  quiet <- \(cnd) if (grepl("did not deliver", conditionMessage(cnd))) rlang::cnd_muffle(cnd)
  utils::capture.output(
    withCallingHandlers(expect_killed_block(workers), warning = quiet),
    type = "message"
  )
  expect_empty(folder)
})

test_that("memory that a limit does not allow is an error, before R ends", {
  skip_on_os(c("windows", "mac"))
  skip_on_cran()
  script <- withr::local_tempfile(
    lines = c(
      sprintf(".libPaths(%s)", paste(deparse(.libPaths()), collapse = "")),
      "set.seed(1)",
      "n <- 2500",
      "y <- matrix(rnorm(2 * n), 2)",
      "coords <- cbind(runif(n), runif(n))",
      "tryCatch(",
      "  patina::spatial_test(y, coords, normalization = 'none', approximation = 'exact', progress = FALSE),",
      "  error = \\(cnd) writeLines(c(class(cnd)[1], conditionMessage(cnd)))",
      ")"
    )
  )
  r <- file.path(R.home("bin"), "Rscript")
  command <- sprintf("ulimit -v 700000; %s --vanilla %s 2>&1", shQuote(r), shQuote(script))
  said <- suppressWarnings(system2("sh", c("-c", shQuote(command)), stdout = TRUE))
  expect_match(said[[1]], "patina_error_approximation")
  expect_match(paste(said, collapse = "\n"), "too much memory.*GB are available.*auto")
})

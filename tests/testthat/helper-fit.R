# Fits of small_tissue(), in this process and on workers.

fit_tissue <- function(tissue, ..., coords = tissue$coords) {
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

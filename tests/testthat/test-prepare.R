test_that("options that make no sense are named", {
  tissue <- small_tissue()
  for (wrong in list("a", NA, 1e12, c(10, 20), 0)) {
    withr::local_options(patina.block_genes = wrong)
    expect_error(fit_tissue(tissue), "patina.block_genes.*whole number", class = "patina_error_argument")
  }
  withr::local_options(patina.block_genes = NULL, patina.tempdir = 7)
  skip_if_not_installed("BiocParallel")
  expect_error(
    fit_tissue(tissue, BPPARAM = BiocParallel::SerialParam()),
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

test_that("threads come from the option", {
  withr::local_options(patina.threads = 1L)
  expect_identical(resolve_threads(), 1L)
  expect_identical(resolve_threads(3, cores = 4L), 3L)
  withr::local_options(patina.threads = NULL)
  withr::local_envvar("_R_CHECK_LIMIT_CORES_" = "true")
  expect_lte(resolve_threads(), 2L)
})

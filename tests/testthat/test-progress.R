# Where each progress bar stood when it closed: tables of `done` and `total`.
closed_bars <- function(code) {
  withr::local_options(cli.progress_handlers_only = "logger", cli.progress_show_after = 0)
  said <- suppressMessages(utils::capture.output(force(code)))
  closed <- grep("terminated", said, value = TRUE)
  place <- sub(".* ([0-9]+/[0-9]+) terminated.*", "\\1", closed)
  data.frame(done = as.integer(sub("/.*", "", place)), total = as.integer(sub(".*/", "", place)))
}

test_that("every pass over counts has a bar that reaches its end", {
  tissue <- example_tissue()
  run <- new_run(1L, progress = TRUE)
  input <- as_input(tissue$counts, tissue$sample_info[c("x", "y")])
  genes <- length(input$genes)
  passes <- function(...) closed_bars(new_normalizer(input, new_settings(...), run))
  robust <- passes()
  # a panel: counts, size factors, anchors, slopes
  expect_identical(robust$total, as.integer(genes * c(1, 2, 1, 1)))
  expect_identical(robust$done, robust$total)
  for (size_factors in c("total", "none")) {
    bars <- passes(size_factors = size_factors)
    expect_gte(nrow(bars), 2L)
    expect_identical(bars$done, bars$total)
  }
  expect_identical(nrow(closed_bars(new_normalizer(input, run = new_run(1L)))), 0L)
})

test_that("reading a file by spot has a bar that reaches its end", {
  counts <- withr::with_seed(1, Matrix::rsparsematrix(5, 2600, 0.5))
  read <- \(spots) counts[, spots, drop = FALSE]
  for (most in c(1e6, 7000)) {
    bars <- closed_bars(file_by_gene(read, 5L, 2600L, most, block = 500, progress = TRUE))
    expect_identical(bars, data.frame(done = c(2600L, 2600L), total = 2600L))
  }
})

test_that("the test of genes has a bar that reaches its end", {
  tissue <- small_tissue()
  bars <- closed_bars(spatial_test(
    tissue$y,
    tissue$coords,
    normalization = "none",
    threads = 1,
    progress = TRUE
  ))
  # of genes; that of kernels is at most at 99 %
  expect_identical(bars$done[bars$total == 6L], 6L)
})

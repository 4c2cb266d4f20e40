tissue <- function() {
  set.seed(3)
  coords <- expand.grid(x = 1:10, y = 1:9)
  y <- matrix(rnorm(40L * 90L), 40L, dimnames = list(sprintf("g%d", 1:40), sprintf("s%d", 1:90)))
  y[1:4, ] <- y[1:4, ] + 2 * matrix(sin(coords$x / 2), 4L, 90L, byrow = TRUE)
  list(y = y, coords = coords)
}

run <- function(y, coords, ...) {
  spatial_test(y, coords, normalization = "none", threads = 1, ...)
}

test_that("every spot given twice is the tissue given once", {
  data <- tissue()
  once <- run(data$y, data$coords)
  twice <- cbind(data$y, data$y)
  colnames(twice) <- sprintf("s%d", 1:180)
  for (shift in c(0, 1e-6)) {
    coords <- rbind(data$coords, data$coords + shift)
    expect_warning(
      again <- run(twice, coords),
      "90 spots of `x` are copies",
      class = "patina_warning_copied_spots"
    )
    expect_identical(tibble::as_tibble(as.list(again)), tibble::as_tibble(as.list(once)))
  }
  expect_identical(again$n, rep(90L, 40L))
})

test_that("copies are found within samples, however the values are stored, whatever else is missing", {
  data <- tissue()
  y <- unname(round(1 + abs(cbind(data$y, data$y[, 5:6])) * 3))
  y[1, ] <- NA
  coords <- rbind(data$coords, data$coords[5:6, ])
  sparse <- methods::as(y, "CsparseMatrix")
  for (x in list(y, sparse, as.data.frame(t(y)), DelayedArray::DelayedArray(y))) {
    expect_warning(
      left <- leave_out_copies(as_input(x, coords), new_settings(), NULL),
      class = "patina_warning_copied_spots"
    )
    input <- left$input
    expect_identical(input$given$row, c(1:90, 5:6))
    expect_identical(sample_order(input)$order, 1:90)
    expect_identical(dim(input_block(input, 2:4)), c(90L, 3L))
    expect_equal(input_block(input, 2:4), t(y[2:4, 1:90]))
  }
  # the same place of another sample is another place
  both <- as_input(
    cbind(y[, 1:90], y[, 1:90]),
    rbind(data$coords, data$coords),
    sample_id = rep(1:2, each = 90)
  )
  expect_no_warning(leave_out_copies(both, new_settings(), NULL))
})

test_that("replicates in one place are spots of their own", {
  set.seed(4)
  time <- rep(c(0, 1, 2, 4, 8, 16), each = 4)
  y <- rbind(rnorm(24), rnorm(24) + time / 4)
  expect_message(results <- run(y, data.frame(time = time)), "24 of 24 spots are at the same place")
  expect_identical(results$n, c(24L, 24L))
  expect_lt(results$pval[2L], 0.001)
})

test_that("places are shared across the edges of cells", {
  set.seed(5)
  for (d in 1:3) {
    coords <- matrix(runif(100 * d), 100)
    n <- nrow(coords)
    close <- coords[1:20, , drop = FALSE] + 1e-9
    expect_identical(which(!is.na(shared_places(rbind(coords, close), NULL))), c(1:20, 101:120))
  }
  expect_true(all(is.na(shared_places(as.matrix(expand.grid(1:20, 1:20)), NULL))))
  # by chance some of many spots on a line are close
  line <- withr::with_seed(1, matrix(runif(2e4)))
  expect_true(all(is.na(shared_places(line, NULL))))
  expect_identical(which(!is.na(shared_places(rbind(line, line[7L, , drop = FALSE]), NULL))), c(7L, 20001L))
})

test_that("a place is as small as spots are dense, on curves and with spots far away", {
  t <- withr::with_seed(1, sort(stats::runif(5000)))
  scattered <- withr::with_seed(2, matrix(stats::runif(4000), 2000))
  layouts <- list(
    line = cbind(3 * t, 4 * t),
    ring = cbind(cos(2 * pi * t), sin(2 * pi * t)),
    far = rbind(scattered, c(100, 0), c(0, -100))
  )
  for (coords in layouts) {
    for (unit in c(1e-150, 1, 1e150)) {
      place <- shared_places(unit * coords, NULL)
      expect_lt(mean(!is.na(place)), 0.01)
      copied <- shared_places(unit * rbind(coords, coords[1:3, ]), NULL)
      expect_true(all(!is.na(copied[c(1:3, nrow(coords) + 1:3)])))
    }
  }
  expect_equal(mean_distance(scattered), sqrt(1 / 2000), tolerance = 0.05)
})

test_that("copies change nothing that is found, whatever is asked, and get what their original has", {
  tissue <- example_tissue(n_spots = 80, n_genes = 40)
  counts <- as.matrix(tissue$counts)
  xy <- tissue$sample_info[c("x", "y")]
  depth <- colSums(counts)
  batch <- seq_len(80) %% 2
  twice <- c(80:1, 3, 1:40)
  again <- counts[, twice]
  colnames(again) <- sprintf("t%d", seq_along(twice))
  places <- unname_rows(xy[twice, ])
  # in the order of the copies, which is that of the sums
  once <- counts[, 80:1]
  colnames(once) <- sprintf("t%d", 1:80)
  here <- unname_rows(xy[80:1, ])
  row <- match(twice, twice)
  same <- function(copied, plain) {
    copied <- as.list(copied)
    plain <- as.list(plain)
    expect_identical(copied[setdiff(names(copied), "spot")], plain[setdiff(names(plain), "spot")])
  }
  silent <- \(x) withCallingHandlers(x, patina_warning_copied_spots = rlang::cnd_muffle)

  tests <- list(
    \(x, xy, d, b) spatial_test(x, xy, threads = 1),
    \(x, xy, d, b) spatial_test(methods::as(x, "CsparseMatrix"), xy, size_factors = d, threads = 1),
    \(x, xy, d, b) spatial_test(as.data.frame(t(x)), xy, covariates = ~b, threads = 1),
    \(x, xy, d, b) spatial_test(x, xy, normalization = "anscombe", sample_id = b, threads = 1)
  )
  for (test in tests) {
    plain <- test(once, here, depth[80:1] |> unname(), batch[80:1])
    same(silent(test(again, places, unname(depth[twice]), batch[twice])), plain)
  }
  patterns <- \(x, xy) spatial_patterns(x, xy, rownames(counts)[1:10], 2, lengthscale = 3, threads = 1)
  plain <- patterns(once, here)
  copied <- silent(patterns(again, places))
  expect_identical(copied$genes, plain$genes)
  expect_identical(copied$patterns$value[1:121], plain$patterns$value[row])
  expect_identical(predict(copied, wide = TRUE)$se_1, predict(plain, wide = TRUE)$se_1[row])
  factors <- \(x, xy) spatial_factors(x, xy, n_factors = 2, threads = 1)
  plain <- factors(once, here)
  copied <- silent(factors(again, places))
  expect_identical(copied$loadings, plain$loadings)
  expect_identical(copied$factors$factor_2, plain$factors$factor_2[row])
  expect_identical(copied$factors$spot, colnames(again))
  expect_identical(predict(copied)$se[1:121], predict(plain)$se[row])
  domains <- spatial_domains(copied, 3, threads = 1)
  expect_identical(domains$domain, spatial_domains(plain, 3, threads = 1)$domain[row])
  expect_identical(domains$spot, colnames(again))
  results <- spatial_test(once, here, threads = 1)
  fields <- \(x, xy) predict(results, x, xy, genes = "gene02", threads = 1)
  same(silent(fields(again, places)), fields(once, here)[row, ])
})

test_that("too few places that are left are told as too few spots", {
  counts <- as.matrix(example_tissue(n_spots = 20, n_genes = 10)$counts)[, rep(1:4, 5)]
  colnames(counts) <- NULL
  expect_error(
    suppressWarnings(spatial_test(counts, data.frame(x = rep(1:4, 5), y = 1), threads = 1)),
    class = "patina_error_too_few_spots"
  )
})

test_that("some spots are taken of values however they are stored", {
  skip_if_not_installed("rhdf5")
  skip_if_not_installed("HDF5Array")
  counts <- as.matrix(example_tissue(n_spots = 60, n_genes = 12)$counts)
  kept <- c(1:20, 25:60)
  coords <- data.frame(x = seq_len(60), y = seq_len(60) %% 7)
  in_parts <- as_input(counts, coords)
  stored <- matrix_by_gene(methods::as(counts, "CsparseMatrix"), most = 200)
  in_parts[c("values", "storage")] <- stored
  file <- \(kind) suppressMessages(as_input(test_path("reference", paste0("anndata_", kind, ".h5ad"))))
  inputs <- list(
    as_input(counts, coords),
    as_input(as.data.frame(t(counts)), coords),
    as_input(methods::as(counts, "CsparseMatrix"), coords),
    as_input(DelayedArray::DelayedArray(counts), coords),
    in_parts,
    file("csc"),
    file("csr"),
    file("dense")
  )
  expect_setequal(
    vapply(inputs, `[[`, "", "storage"),
    c("dense", "columns", "sparse", "delayed", "by_spot", "h5_columns")
  )
  for (input in inputs) {
    some <- keep_spots(input, kept)
    genes <- c(3, 1, 12)
    expect_identical(input_block(some, genes), input_block(input, genes)[kept, ])
    expect_equal(unname(as.matrix(input_stored_block(some, genes))), input_block(some, genes))
    expect_identical(lengths(some[c("spots", "n_spots")]), c(spots = 56L, n_spots = 1L))
    expect_identical(dim(some$coords), dim(input$coords) - c(4L, 0L))
    expect_identical(length(some$sample_id), if (is.null(input$sample_id)) 0L else 56L)
    part <- worker_input(some, genes)
    expect_identical(input_block(part, 1:3), input_block(some, genes))
  }
})

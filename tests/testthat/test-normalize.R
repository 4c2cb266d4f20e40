counts <- spread_counts()
coords <- spread_coords()

n_spots <- 40
n_genes <- 30
sparse <- Matrix::Matrix(counts * 1, sparse = TRUE)
log_total <- log(colSums(counts))

all_blocks <- function(input, ...) {
  genes <- seq_along(input$genes)
  normalizer_of(input, ...)(input_block(input, genes), genes)
}

test_that("stabilize() and regress_out() agree with NaiveDE 1.2.0", {
  naivede <- function(name) {
    file <- test_path("reference", paste0("naivede_", name, ".csv"))
    as.matrix(utils::read.csv(file, row.names = 1))
  }
  info <- as.data.frame(naivede("info"))
  stable <- stabilize(naivede("counts"))
  expect_equal(stable, naivede("stabilize"), tolerance = 1e-10)
  # its own fit of phi is not that exact
  expect_equal(stable, naivede("stabilize_default"), tolerance = 1e-8)
  expect_equal(
    regress_out(naivede("stabilize"), info, ~ log(total_counts)),
    naivede("regress_total"),
    tolerance = 1e-10
  )
  expect_equal(
    regress_out(naivede("stabilize"), info, ~ log(total_counts) + age),
    naivede("regress_total_age"),
    tolerance = 1e-10
  )
})

test_that("shape and names stay", {
  stable <- stabilize(counts)
  expect_identical(dimnames(stable), dimnames(counts))
  expect_identical(stabilize(sparse), stable)
  expect_identical(stabilize(unname(counts)), unname(stable))
  table <- as.data.frame(t(counts))
  expect_identical(stabilize(table), as.data.frame(t(stable)))
  expect_s3_class(stabilize(tibble::as_tibble(table)), "tbl_df")
  info <- data.frame(depth = log_total, row.names = colnames(counts))
  expect_identical(
    regress_out(stable, info[n_spots:1, , drop = FALSE], ~depth),
    regress_out(stable, info, ~depth)
  )
  expect_identical(
    regress_out(as.data.frame(t(stable)), info, ~depth),
    as.data.frame(t(regress_out(stable, info, ~depth)))
  )
})

test_that("anscombe is stabilize() and regress_out()", {
  info <- data.frame(depth = log_total, batch = rep(c("a", "b"), each = 20))
  input <- as_input(counts, coords, sample_info = info)
  expect_equal(
    all_blocks(input, "anscombe"),
    unname(t(regress_out(stabilize(counts), info, ~depth)))
  )
  expect_equal(
    all_blocks(input, "anscombe", ~ log(total_counts) + batch),
    unname(t(regress_out(stabilize(counts), info, ~ depth + batch)))
  )
  # a column of the table goes before the sums
  input$samples$total_counts <- 1:n_spots
  expect_equal(
    all_blocks(input, "none", ~ log(total_counts)),
    unname(t(regress_out(counts, input$samples, ~ log(1:n_spots))))
  )
  expect_identical(all_blocks(input, "none"), unname(t(counts)) * 1)
})

test_that("pearson residuals follow their definition", {
  input <- as_input(counts, coords)
  means <- rowMeans(counts)
  marginal <- sum(means^2 * (apply(counts, 1, stats::var) - means)) / sum(means^4)
  depth <- stats::var(colSums(counts)) / mean(colSums(counts))^2
  phi <- (marginal - depth) / (1 + depth)
  expect_equal(attr(normalizer_of(input, "anscombe"), "phi"), marginal)
  old <- \(input) all_blocks(input, "pearson", size_factors = "total", depth = "regression")
  expect_equal(attr(normalizer_of(input, "pearson", size_factors = "total"), "phi"), phi)
  mu <- outer(colSums(counts), rowSums(counts)) / sum(counts)
  expected <- (t(counts) - mu) / sqrt(mu + phi * mu^2)
  expected[] <- pmax(pmin(expected, sqrt(n_spots)), -sqrt(n_spots))
  expected <- stats::residuals(stats::lm(expected ~ log_total)) +
    rep(stats::coef(stats::lm(expected ~ log_total))[1, ], each = n_spots)
  # up to the level at which the regression's intercept is read
  centred <- \(x) scale(x, scale = FALSE)
  expect_equal(centred(old(input)), centred(unname(expected)), ignore_attr = TRUE)
  expect_equal(
    all_blocks(input, "pearson", ~ log(total_counts), size_factors = "total"),
    unname(expected)
  )
  # counts that vary less than a Poisson's
  even <- counts
  even[] <- withr::with_seed(4, rbinom(length(even), 10, 0.9))
  expect_true(all(is.finite(all_blocks(as_input(even, coords), "pearson"))))
  expect_true(all(is.finite(old(as_input(even, coords)))))
})

test_that("counts get Pearson residuals unless asked otherwise, in every function", {
  functions <- list(new_settings, spatial_test, model_search, spatial_patterns)
  choices <- lapply(functions, \(f) eval(formals(f)$normalization))
  expect_identical(unique(choices), list(c("pearson", "anscombe", "none")))
  expect_identical(
    spatial_test(counts, coords)$pval,
    spatial_test(counts, coords, normalization = "pearson")$pval
  )
  expect_error(spatial_test(counts + 0.5, coords), "none", class = "patina_error_counts")
  expect_error(spatial_test(counts - 1, coords), "none", class = "patina_error_counts")
})

test_that("a gene's values do not depend on the block, the storage or untestable genes", {
  extra <- rbind(
    counts,
    zero = 0,
    constant = 7,
    missing = c(NA, counts[1, -1]),
    infinite = c(Inf, counts[1, -1])
  )
  for (normalization in c("anscombe", "pearson", "none")) {
    covariates <- if (normalization == "none") ~batch
    samples <- data.frame(batch = rep(1:3, length.out = n_spots)^2)
    input <- as_input(counts, coords, sample_info = samples)
    whole <- all_blocks(input, normalization, covariates)
    normalize <- normalizer_of(input, normalization, covariates)
    for (g in c(1, 7, n_genes)) {
      expect_identical(normalize(input_block(input, g), g), whole[, g, drop = FALSE])
    }
    for (x in list(sparse, as.data.frame(t(counts)), extra, Matrix::Matrix(extra, sparse = TRUE))) {
      input <- as_input(x, coords, sample_info = samples)
      expect_identical(all_blocks(input, normalization, covariates)[, 1:n_genes], whole)
    }
  }
})

test_that("samples keep their means and have a slope in common", {
  id <- rep(c("a", "b"), each = 20)
  input <- as_input(counts, coords, sample_id = id)
  normalize <- normalizer_of(input, "anscombe")
  stable <- log(t(counts) + 1 / (2 * attr(normalize, "phi")))
  fit <- stats::lm(stable ~ 0 + id + log_total)
  expected <- stable - outer(log_total, stats::coef(fit)["log_total", ])
  expect_equal(all_blocks(input, "anscombe"), unname(expected))
  # a gene of one sample is expected in that one only
  one_sided <- counts
  one_sided[1, id == "a"] <- 0L
  input <- as_input(one_sided, coords, sample_id = id)
  residuals <- all_blocks(input, "pearson", depth = "offset")
  expect_lt(stats::sd(residuals[id == "a", 1]), 0.2 * stats::sd(residuals[id == "b", 1]))
})

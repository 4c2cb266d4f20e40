n_spots <- 40
n_genes <- 30
counts <- withr::with_seed(
  1,
  matrix(
    rnbinom(n_genes * n_spots, mu = rgamma(n_genes, 1) * 5, size = 2),
    n_genes,
    dimnames = list(paste0("g", seq_len(n_genes)), paste0("s", seq_len(n_spots)))
  )
)
coords <- withr::with_seed(2, matrix(runif(2 * n_spots), n_spots))
sparse <- Matrix::Matrix(counts * 1, sparse = TRUE)
log_total <- log(colSums(counts))

normalizer_of <- function(input, ...) {
  new_normalizer(input, new_settings(...), new_run(1L))
}

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

test_that("phi is the least squares fit", {
  m <- rowMeans(counts)
  v <- apply(counts, 1, stats::var)
  phi <- stats::optimize(\(phi) sum((v - m - phi * m^2)^2), c(0, 10), tol = 1e-12)$minimum
  input <- as_input(counts, coords)
  fitted <- attr(normalizer_of(input, "anscombe"), "phi")
  expect_equal(fitted, phi, tolerance = 1e-6)
  expect_equal(stabilize(counts), log(counts + 1 / (2 * fitted)))
})

test_that("regress_out() subtracts the covariates' part of a linear model", {
  y <- withr::with_seed(3, matrix(rnorm(5 * n_spots), 5))
  info <- data.frame(
    depth = log_total,
    group = rep(c("a", "b", "c", "d"), 10),
    same = 1,
    twice = 2 * log_total
  )
  fit <- stats::lm(t(y) ~ depth, info)
  expected <- t(y) - outer(info$depth, stats::coef(fit)[2, ])
  expect_equal(regress_out(y, info, ~depth), t(expected))
  # what others determine changes nothing
  expect_equal(regress_out(y, info, ~ depth + same + twice), t(expected))
  expect_identical(regress_out(y, info, ~same), y)
  # with a factor the mean over its levels stays
  fit <- stats::lm(t(y) ~ depth + group, info, contrasts = list(group = "contr.sum"))
  expected <- stats::residuals(fit) + rep(stats::coef(fit)[1, ], each = n_spots)
  expect_equal(regress_out(y, info, ~ depth + group), t(unname(expected)))
  expect_equal(regress_out(y, info, ~ 0 + group + depth), t(unname(expected)))
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

test_that("overdispersion is told from differences in depth", {
  tissue <- function(depth, phi) {
    mu <- outer(seq(2, 20, length.out = 300), depth)
    matrix(rnbinom(length(mu), mu = mu, size = 1 / phi), 300)
  }
  withr::local_seed(5)
  depth <- exp(stats::rnorm(400, sd = 0.9))
  fitted <- function(counts, ..., size_factors = "total") {
    attr(normalizer_of(as_input(counts, 1:400, ...), size_factors = size_factors), "phi")
  }
  both <- cbind(tissue(depth[1:200], 0.3), tissue(4 * depth[201:400], 0.3))
  expect_equal(fitted(tissue(depth, 0.3)), 0.3, tolerance = 0.1)
  expect_equal(fitted(both, sample_id = rep(1:2, each = 200)), 0.3, tolerance = 0.1)
  expect_equal(fitted(tissue(depth, 0.3), size_factors = NULL), 0.3, tolerance = 0.05)
  expect_equal(
    fitted(both, sample_id = rep(1:2, each = 200), size_factors = NULL),
    0.3,
    tolerance = 0.05
  )
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

test_that("the status of genes is found, dense or sparse", {
  block <- cbind(
    c(1, 0, 2),
    c(0, 0, 0),
    c(3, 3, 3),
    c(1, NA, 2),
    c(Inf, Inf, Inf),
    c(NaN, 0, 0),
    c(-1, 0, 0),
    c(1e308, 1e308, -1e308),
    c(NA, NA, NA)
  )
  expected <- c(
    "ok",
    "all-zero",
    "constant",
    rep("non-finite", 3),
    rep("ok", 2),
    "non-finite"
  )
  expect_identical(gene_status(block), expected)
  stored <- methods::as(Matrix::Matrix(block, sparse = TRUE), "generalMatrix")
  expect_identical(gene_status(stored), expected)
  expect_identical(gene_status(block[, 0]), character())
})

test_that("what is not a count is named", {
  bad <- counts
  bad[2, 3] <- -1
  bad[5, 1] <- 0.5
  expect_snapshot(stabilize(bad), error = TRUE)
  for (x in list(bad, Matrix::Matrix(bad, sparse = TRUE), as.data.frame(t(bad)))) {
    input <- as_input(x, coords)
    expect_error(normalizer_of(input, "anscombe"), "g2.*g5", class = "patina_error_counts")
    expect_error(normalizer_of(input, "pearson"), "g2.*g5", class = "patina_error_counts")
    expect_silent(normalizer_of(input, "none"))
  }
})

test_that("counts without overdispersion or without counts are explained", {
  even <- counts
  even[] <- withr::with_seed(4, rbinom(length(even), 10, 0.9))
  expect_snapshot(stabilize(even), error = TRUE)
  expect_error(stabilize(even), class = "patina_error_phi")
  expect_error(stabilize(counts * 0), class = "patina_error_counts")
  empty <- counts
  empty[, c(2, 4)] <- 0L
  input <- as_input(empty, coords)
  expect_snapshot(new_normalizer(input), error = TRUE)
  expect_error(new_normalizer(input), "s2.*s4", class = "patina_error_empty_spots")
  expect_error(
    normalizer_of(input, "anscombe", covariates = ~ log(total_counts)),
    "s2.*s4",
    class = "patina_error_covariates"
  )
  # genes none of which can be tested are no error
  expect_silent(normalizer_of(as_input(counts[1:2, ] * 0, coords)))
})

test_that("covariates are checked", {
  input <- as_input(counts, coords)
  expect_snapshot(normalizer_of(input, covariates = ~ log(depth)), error = TRUE)
  expect_error(normalizer_of(input, covariates = ~ log(1:3)), class = "patina_error_covariates")
  expect_error(normalizer_of(input, covariates = "depth"), class = "patina_error_argument")
  expect_error(normalizer_of(input, covariates = y ~ depth), class = "patina_error_argument")
  expect_error(normalizer_of(input, "log"))
  expect_error(
    regress_out(counts, data.frame(a = c(NA, 1:39)), ~a),
    "s1",
    class = "patina_error_covariates"
  )
  expect_error(regress_out(counts, data.frame(a = 1:3), ~a), class = "patina_error_argument")
})

counts <- spread_counts()
coords <- spread_coords()

log_total <- log(colSums(counts))

test_that("regress_out() subtracts the covariates' part of a linear model", {
  y <- withr::with_seed(3, matrix(rnorm(5 * 40), 5))
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
  expected <- stats::residuals(fit) + rep(stats::coef(fit)[1, ], each = 40)
  expect_equal(regress_out(y, info, ~ depth + group), t(unname(expected)))
  expect_equal(regress_out(y, info, ~ 0 + group + depth), t(unname(expected)))
})

test_that("a factor that names spots is no covariate", {
  input <- as_input(fake_tissue()$counts, fake_tissue()$coords)
  input$samples <- data.frame(id = sprintf("spot %d", 1:64), half = rep(1:32, 2))
  expect_error(
    normalizer_of(input, covariates = ~id),
    "`?id`?.* 64 levels",
    class = "patina_error_covariates"
  )
  # as many levels as leave half of the freedom are the user's choice, and numbers have none
  expect_no_error(normalizer_of(input, covariates = ~ factor(half)))
  expect_no_error(normalizer_of(input, covariates = ~half))
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

test_that("an offset and a factor of one level are errors that say so", {
  info <- data.frame(depth = log_total, slide = "a")
  expect_error(regress_out(counts, info, ~ offset(depth)), "offset", class = "patina_error_covariates")
  expect_error(
    regress_out(counts, info, ~ depth + slide),
    "slide.*the same",
    class = "patina_error_covariates"
  )
})

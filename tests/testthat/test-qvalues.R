test_that("q-values are SpatialDE's", {
  reference <- utils::read.csv(gzfile(reference_path("mob_run.csv.gz")))
  expect_equal(qvalues(reference$pval), reference$qval, tolerance = 1e-9, ignore_attr = TRUE)
})

test_that("few p-values give Benjamini and Hochberg's", {
  p <- c(a = 0.01, b = NA, c = 0.04, d = 0.03)
  expect_equal(qvalues(p), stats::p.adjust(p, "BH"), ignore_attr = "pi0")
  expect_equal(attr(qvalues(p), "pi0"), 1)
  expect_named(qvalues(p), names(p))
  expect_equal(as.vector(qvalues(numeric())), numeric())
  expect_equal(as.vector(qvalues(NA)), NA_real_)
})

test_that("bad p-values are named", {
  expect_snapshot(error = TRUE, {
    qvalues(c(0.5, 1.5, -1))
    qvalues("a")
    qvalues(0.5, pi0 = 2)
  })
})

test_that("panels get Benjamini-Hochberg's q-values, and pi0 can be given", {
  p <- c(seq(0.001, 0.05, length.out = 90), seq(0.06, 0.9, length.out = 45))
  few <- test_qvalues(p, "calibrated", NULL, NULL)
  expect_equal(few$qval, stats::p.adjust(p, "BH"))
  expect_true(all(few$qval >= p))
  expect_identical(few[c("method", "pi0")], list(method = "Benjamini-Hochberg", pi0 = 1))
  expect_lt(test_qvalues(p, "spatialde", NULL, NULL)$pi0, 0.1)
  expect_equal(test_qvalues(p, "calibrated", 0.5, NULL)$qval, 0.5 * few$qval)
  many <- (1:2000) / 2001
  expect_identical(test_qvalues(many, "calibrated", NULL, NULL)$method, "Storey-Tibshirani")
  # hardly a large p-value: pi0 cannot be told
  expect_identical(test_qvalues(many^8 / 2, "calibrated", NULL, NULL)$pi0, 1)
  tissue <- example_tissue(60, 20)
  coords <- tissue$sample_info[c("x", "y")]
  expect_error(spatial_test(tissue$counts, coords, pi0 = 2), "pi0", class = "patina_error_argument")
  result <- spatial_test(tissue$counts, coords, pi0 = 0.4)
  expect_equal(result$qval, 0.4 * stats::p.adjust(result$pval, "BH"))
  expect_identical(attr(result, "patina")$qvalues, list(method = "given pi0", pi0 = 0.4))
})

test_that("pi0 may be a whole number", {
  expect_identical(qvalues(c(0.01, 0.5), pi0 = 1L), qvalues(c(0.01, 0.5), pi0 = 1))
})

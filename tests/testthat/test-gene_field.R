tissue <- example_tissue(n_spots = 150, n_genes = 30)
xy <- tissue$sample_info[c("x", "y")]
results <- spatial_test(tissue$counts, xy, threads = 1)
top <- top_genes(results, 2)$gene

test_that("a field has a row for each gene and spot, and its band", {
  field <- predict(results, tissue$counts, xy, genes = top, threads = 1)
  expect_s3_class(field, "patina_field")
  expect_named(
    field,
    c("gene", "spot", "x", "y", "value", "mean", "se", "lower", "upper", "beyond")
  )
  expect_identical(field$spot, rep(colnames(tissue$counts), 2))
  expect_identical(field$gene, rep(top, each = 150))
  critical <- attr(field, "patina")$critical[field$gene]
  expect_equal(field$upper - field$mean, unname(critical * field$se))
  expect_true(all(field$lower[field$beyond == "high"] > 0))
  expect_true(all(field$upper[field$beyond == "low"] < 0))
  expect_gt(sum(field$beyond == "high"), 0)
  # the spatial part counts from its mean over the spots
  expect_equal(unname(tapply(field$mean, field$gene, mean)), c(0, 0), ignore_attr = TRUE)
  expect_identical(predict(results, tissue$counts, xy, genes = top, threads = 2), field)
  wider <- predict(results, tissue$counts, xy, genes = top, level = 0.99, threads = 1)
  expect_true(all(wider$upper > field$upper))
  expect_identical(wider$mean, field$mean)
})

test_that("the mean is the posterior's by its formula", {
  field <- predict(results, tissue$counts, xy, genes = top[[1L]], threads = 1)
  row <- results[results$gene == top[[1L]], ]
  k <- exp(-as.matrix(dist(xy))^2 / (2 * row$lengthscale^2))
  inverse <- solve(k + diag(row$delta, 150))
  mu <- sum(inverse %*% field$value) / sum(inverse)
  mean <- as.vector(k %*% inverse %*% (field$value - mu))
  expect_equal(field$mean, mean - mean(mean), tolerance = 1e-6)
  variance <- row$var_noise / row$delta * diag(k - k %*% inverse %*% k)
  expect_equal(field$se, sqrt(unname(variance)), tolerance = 1e-6)
})

test_that("new places, samples, one dimension and the order of spots", {
  there <- predict(results, tissue$counts, xy, genes = top, newcoords = xy[1:5, ], threads = 1)
  here <- predict(results, tissue$counts, xy, genes = top, threads = 1)
  expect_named(there, c("gene", "x", "y", "mean", "se", "lower", "upper", "beyond"))
  expect_equal(there$mean[1:5], here$mean[1:5])
  expect_equal(there$se[1:5], here$se[1:5])

  sample <- rep(c("b", "a"), length.out = 150)
  two <- spatial_test(tissue$counts, xy, sample_id = sample, threads = 1)
  gene <- top_genes(two, 1)$gene
  slides <- predict(two, tissue$counts, xy, genes = gene, sample_id = sample, threads = 1)
  expect_identical(as.character(slides$sample), sample)
  expect_identical(slides$spot, colnames(tissue$counts))
  expect_equal(unname(c(tapply(slides$mean, slides$sample, mean))), c(0, 0))
  expect_s3_class(plot_gene_field(slides), "ggplot")
  expect_draws(plot_gene_field(slides[slides$sample == "b", ], unit = "mm"))
  expect_error(
    predict(two, tissue$counts, xy, genes = gene, sample_id = sample, newcoords = xy[1:2, ]),
    "`new_sample_id`",
    class = "patina_error_argument"
  )
  new <- predict(
    two,
    tissue$counts,
    xy,
    genes = gene,
    sample_id = sample,
    newcoords = xy[1:2, ],
    new_sample_id = c("a", "b"),
    threads = 1
  )
  expect_identical(as.character(new$sample), c("a", "b"))
})

test_that("no new places have no field, and columns are not exchanged", {
  none <- predict(results, tissue$counts, xy, genes = top, newcoords = xy[0, ], threads = 1)
  expect_identical(nrow(none), 0L)
  expect_named(none, c("gene", "x", "y", "mean", "se", "lower", "upper", "beyond"))
  expect_identical(levels(none$beyond), c("low", "no", "high"))
  expect_error(plot_gene_field(none), "no rows", class = "patina_error_argument")
  expect_error(
    predict(results, tissue$counts, xy, genes = top, newcoords = data.frame(Y = 1, x = 2)),
    "newcoords.*no column y",
    class = "patina_error_coords"
  )
})

test_that("genes may be rows of the test; other spots are an error", {
  by_row <- predict(results, tissue$counts, xy, genes = top_genes(results, 2), threads = 1)
  expect_identical(by_row, predict(results, tissue$counts, xy, genes = top, threads = 1))
  expect_error(
    predict(results, tissue$counts[, 1:100], xy[1:100, ], genes = top),
    "150 were tested",
    class = "patina_error_argument"
  )
})

test_that("pictures are made, mistakes named", {
  field <- predict(results, tissue$counts, xy, genes = top, threads = 1)
  plot <- plot_gene_field(field)
  expect_identical(nrow(plot$data), 3L * nrow(field))
  expect_silent(ggplot2::ggplot_build(plot))
  expect_error(plot_gene_field(results), class = "patina_error_argument")
  expect_error(plot_gene_field(field[names(field) != "x"]), "no column", class = "patina_error_argument")
  expect_error(predict(results), class = "patina_error_argument")
  expect_error(predict(results, tissue$counts, xy, genes = "nobody"), class = "patina_error_names")
  expect_error(predict(results, tissue$counts, xy, level = 1), class = "patina_error_argument")
  expect_error(
    predict(results, tissue$counts, xy, newcoords = data.frame(row = 1, col = 2)),
    "no columns x and y",
    class = "patina_error_coords"
  )
  expect_error(predict(results, tissue$counts, xy, newcoords = 1:3), class = "patina_error_coords")
  search <- spatial_test(tissue$counts, xy, kernels = "linear", threads = 1)
  expect_error(
    predict(search, tissue$counts, xy, genes = top),
    "kernel linear",
    class = "patina_error_argument"
  )
})

test_that("a field is made as the test was, or says what differs", {
  sample <- rep(1:2, 75)
  other <- list(
    spatial_test(tissue$counts, xy, sample_id = sample, threads = 1),
    spatial_test(tissue$counts, xy, covariates = ~ x + y, sample_info = xy, threads = 1),
    spatial_test(tissue$counts, xy, size_factors = "total", threads = 1),
    spatial_test(tissue$counts, xy, depth = "offset", threads = 1)
  )
  said <- c("sample_id", "covariates", "size_factors", "depth")
  for (i in seq_along(other)) {
    expect_error(
      predict(other[[i]], tissue$counts, xy, genes = top),
      said[[i]],
      class = "patina_error_argument"
    )
  }
  again <- predict(
    other[[2]],
    tissue$counts,
    xy,
    genes = top,
    covariates = ~ x + y,
    sample_info = xy,
    threads = 1
  )
  expect_s3_class(again, "patina_field")
})

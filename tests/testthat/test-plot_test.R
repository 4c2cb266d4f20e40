test_that("plot_test() places genes by fsv and by the logarithm of the p-value", {
  results <- fake_test()
  plot <- plot_test(results)
  expect_draws(plot)
  points <- ggplot2::layer_data(plot, 1L)
  expect_equal(nrow(points), 40L)
  expect_equal(max(points$y), 400)
  # More certain means larger; an unknown error is drawn smallest.
  size <- function(gene) points$size[points$y == -results$log10_pval[results$gene == gene]][[1L]]
  expect_gt(size("Slope"), size("Stripe"))
  expect_gt(size("Stripe"), size("gene3"))
  expect_equal(size("gene8"), min(points$size))
  # Hits are drawn last, on top.
  expect_equal(order(plot$data$group == "significant"), seq_len(41L))
})

test_that("the FDR line lies between the last hit and the next gene", {
  results <- fake_test()
  line <- fdr_threshold(transform(results, neg_log10_pval = -log10_pval)[1:40, ], 0.05)
  hit <- results$qval[1:40] < 0.05
  expect_true(all((-results$log10_pval[1:40] > line) == hit))
  expect_null(fdr_threshold(data.frame(qval = c(0.5, NA), neg_log10_pval = 1:2), 0.05))
  expect_equal(fdr_threshold(data.frame(qval = 0.01, neg_log10_pval = 7), 0.05), 7)
  expect_draws(plot_test(results[results$gene %in% paste0("gene", 30:40), ]))
})

test_that("plot_test() takes filtered, stripped and unusual results", {
  results <- fake_test()
  expect_draws(plot_test(results[which(results$qval < 0.05), ]))
  expect_draws(plot_test(as.data.frame(results[c("gene", "fsv", "log10_pval", "qval")])))
  expect_draws(plot_test(results, n_labels = 0, pseudo_genes = NULL))
  expect_draws(plot_test(results[1, ]))
  models <- fake_models()
  models$model[[1L]] <- "cosine"
  expect_draws(plot_test(results, models))
  expect_error(plot_test(results[42, ]), class = "patina_error_argument")
  expect_snapshot(error = TRUE, {
    plot_test(results["gene"])
    plot_test("results")
    plot_test(results, fdr = 5)
    plot_test(results[42, ])
    plot_test(results, models = results["gene"])
  })
})

test_that("models colour the hits", {
  results <- fake_test()
  plot <- plot_test(results, fake_models())
  expect_draws(plot)
  group <- stats::setNames(as.character(plot$data$group), plot$data$gene)
  expect_equal(unname(group[fake_models()$gene]), fake_models()$model)
  expect_equal(group[["gene12"]], "no model")
  expect_equal(group[["gene40"]], "other")
})

test_that("labels work without ggrepel", {
  data <- data.frame(label = "a", pseudo = FALSE, fsv = 0.5, neg_log10_pval = 3)
  expect_s3_class(label_layer(data, repel = FALSE)$geom, "GeomText")
  skip_if_not_installed("ggrepel")
  expect_s3_class(label_layer(data, repel = TRUE)$geom, "GeomTextRepel")
})

test_that("pictures of a test", {
  expect_picture("test", plot_test(fake_test(), n_labels = 0))
  expect_picture("test with models", plot_test(fake_test(), fake_models(), n_labels = 0))
})

test_that("many genes without a signal are a density, hits stay points", {
  few <- fake_test()
  crowd <- few[rep(which(few$gene == "gene40"), 2500L), ]
  crowd$fsv <- seq(0, 1, length.out = 2500L)
  crowd$log10_pval <- -seq(0, 1, length.out = 2500L)
  many <- rbind(few, crowd)
  plot <- plot_test(many)
  expect_no_warning(expect_draws(plot))
  tiles <- ggplot2::layer_data(plot, 1L)
  others <- many$gene != "log_total_count" & !is.na(many$log10_pval) & !(many$qval < 0.05 & !is.na(many$qval))
  expect_equal(sum(tiles$count), sum(others))
  expect_equal(sum(plot$data$crowd), sum(others))
  expect_false(any(plot_test(few)$data$crowd))
  expect_equal(nrow(ggplot2::layer_data(plot, 2L)), sum(few$qval[1:40] < 0.05))
  expect_no_warning(expect_draws(plot_test(crowd)))
})

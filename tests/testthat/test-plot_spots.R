tissue <- fake_tissue()

test_that("spots are as wide as the distance between neighbours, at any size", {
  expect_equal(spot_spacing(as.matrix(tissue$coords)), 1)
  expect_equal(spot_spacing(cbind(1:10 * 3)), 3)
  # Spots in one place, and more spots than are looked at
  expect_equal(spot_spacing(cbind(c(1, 1, 3, 3, 5, 5), 0)), 2)
  expect_equal(spot_spacing(as.matrix(expand.grid(1:50, 1:50))), 1)
  expect_equal(spot_spacing(cbind(1, 1)), 1)

  # Against all distances: scattered, clustered, rounded to the same places, on a line, all in one place
  set.seed(1)
  many <- matrix(rnorm(3000), ncol = 3)
  clustered <- rbind(many * c(1e-3, 1), 100 + many[1:50, ])
  for (coords in list(
    many,
    many[, 1:2],
    many[, 1, drop = FALSE],
    clustered,
    round(many, 1),
    cbind(1, many[, 1])
  )) {
    all <- as.matrix(dist(coords))
    all[all == 0] <- NA
    expect_equal(nearest_distance(coords, 1:900), unname(apply(all[1:900, ], 1, min, na.rm = TRUE)))
  }
  expect_equal(nearest_distance(cbind(rep(1, 9), 2), 1:2), c(NA, NA_real_))

  # The disc's radius as it is drawn, against the distance of two spots as they are drawn
  for (keep in list(1:64, 1:24, which(tissue$coords$x < 3))) {
    plot <- plot_genes(tissue$counts[, keep], tissue$coords[keep, ], genes = "Slope", spot_size = 1)
    withr::local_pdf(withr::local_tempfile(fileext = ".pdf"))
    table <- ggplot2::ggplotGrob(plot)
    panel <- which(table$layout$name == "panel-1-1")
    height <- as.double(table$heights[table$layout$t[[panel]]])
    width <- as.double(table$widths[table$layout$l[[panel]]])
    grid::pushViewport(grid::viewport(
      width = grid::unit(3, "in"),
      height = grid::unit(3 * height / width, "in")
    ))
    discs <- grid::getGrob(table$grobs[[panel]], "circle", grep = TRUE)
    inches <- function(x, convert) convert(x, "in", valueOnly = TRUE)
    radius <- min(inches(discs$r[1], grid::convertWidth), inches(discs$r[1], grid::convertHeight))
    expect_equal(2 * radius, inches(discs$x[2] - discs$x[1], grid::convertWidth))
  }
})

test_that("spots are tiles of their lattice, discs elsewhere, and pixels where they are many", {
  square <- as.matrix(expand.grid(x = 1:12, y = 1:9)) * 7
  row <- rep(1:40, each = 30)
  hexagonal <- cbind(rep(1:30, 40) + (row %% 2) / 2, row * sqrt(3) / 2) * 100
  turn <- matrix(c(cos(0.3), sin(0.3), -sin(0.3), cos(0.3)), 2)
  layout <- spot_layout(square)
  expect_identical(layout$shape, "square")
  expect_equal(layout$width, 7)
  layout <- spot_layout(hexagonal %*% turn)
  expect_identical(layout$shape, "hexagon")
  expect_equal(layout$width, 100)
  # an angle matters up to a sixth of a turn
  expect_equal(cos(6 * layout$angle), cos(6 * 0.3))
  # missing spots, and places that were measured with an error
  some <- hexagonal[seq_len(nrow(hexagonal)) %% 7 != 0, ]
  expect_identical(spot_layout(some)$shape, "hexagon")
  expect_identical(spot_layout(some + sin(seq_along(some)) * 20)$shape, "disc")
  # scattered cells: discs as large as the tissue's area for each
  cells <- cbind((1:5000 * 0.7548776662) %% 1, (1:5000 * 0.5698402910) %% 1)
  expect_equal(pi / 4 * spot_layout(cells)$width^2, 1 / 5000, tolerance = 0.1)
  expect_equal(spot_layout(cells, spot_size = 2)$width, 2 * spot_spacing(cells))
  # many: one pixel for each spot of an upright square lattice, smaller ones for others
  many <- as.matrix(expand.grid(1:160, 1:130))
  expect_identical(spot_layout(many), list(shape = "raster", width = 1, angle = 0, close = FALSE))
  expect_identical(spot_layout(rbind(many, many + 0.5))$shape, "raster")
  # all spots on a line or in one place
  expect_identical(spot_layout(cbind(1:20, 0))$shape, "disc")
  expect_true(spot_layout(cbind(rep(1, 9), 2))$width > 0)
})

test_that("a picture of many spots covers the tissue, and its pixels are the spots' means", {
  n <- 150
  coords <- expand.grid(x = seq_len(n), y = seq_len(n))
  value <- coords$x + 1000 * coords$y
  counts <- matrix(value, 1L, dimnames = list("Gene", NULL))
  plot <- plot_genes(counts, coords, "Gene", trim = 0)
  layer <- ggplot2::layer_data(plot)
  expect_equal(nrow(layer), n^2)
  raster <- grid::getGrob(drawn_panels(plot)[[1L]], "raster", grep = TRUE)
  expect_identical(dim(raster$raster), c(150L, 150L))
  # nothing shines through between scattered cells
  cells <- data.frame(x = (1:30000 * 0.7548776662) %% 1, y = (1:30000 * 0.5698402910) %% 1)
  counts <- matrix(cells$x, 1L, dimnames = list("Gene", NULL))
  plot <- plot_genes(counts, cells, "Gene", trim = 0)
  raster <- grid::getGrob(drawn_panels(plot)[[1L]], "raster", grep = TRUE)$raster
  expect_lt(mean(is.na(raster)), 0.05)
  # the last column of pixels is the brightest
  expect_match(as.vector(raster)[100 * ncol(raster) - 4L], "^#F")
})

test_that("of many spots without a value the tissue is still seen, and of domains the most frequent", {
  cells <- data.frame(x = (1:30000 * 0.7548776662) %% 1, y = (1:30000 * 0.5698402910) %% 1)
  colours <- function(colour, ...) {
    plot <- ggplot2::ggplot(
      cbind(cells, colour = colour),
      ggplot2::aes(.data$x, .data$y, colour = .data$colour)
    ) +
      geom_spot(layout = spot_layout(cells)) +
      ...
    ggplot2::layer_data(plot)
  }
  half <- colours(ifelse(cells$x < 0.5, 1, NA), ggplot2::scale_colour_viridis_c(na.value = "grey85"))
  expect_true(all(half$colour[half$x > 0.52] == "grey85") && !any(half$colour[half$x < 0.48] == "grey85"))
  expect_gt(nrow(half) * spot_layout(cells)$width^2, 0.95)
  # one in ten is of another domain
  domain <- factor(ifelse(seq_along(cells$x) %% 10 == 0, "c", ifelse(cells$x < 0.5, "a", "b")))
  three <- colours(domain, ggplot2::scale_colour_manual(values = c(a = "red", b = "blue", c = "green")))
  expect_gt(mean(three$colour[three$x < 0.48] == "red"), 0.85)
  expect_gt(mean(three$colour[three$x > 0.52] == "blue"), 0.85)
})

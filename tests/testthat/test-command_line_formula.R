test_that("a formula runs nothing but arithmetic", {
  good <- c(
    "~ x",
    "~ log(total_counts) + x:y - 1",
    "~ (x + y)^2",
    "~ poly(x, 2, raw = TRUE) * factor(batch)",
    "~ splines::ns(x, df = 3) + I((x - 1)^2 / 4)",
    "~ log(exp(x) + sqrt(2))",
    "~ `odd name`"
  )
  for (text in good) {
    expect_true(rlang::is_formula(parse_formula(text), lhs = FALSE))
  }
  folder <- withr::local_tempdir()
  withr::local_dir(folder)
  bad <- c(
    '~ I({base::system("touch x"); 1})',
    'system("touch x")',
    '~ system("touch x")',
    '~ x + base::file.create("x")',
    '~ log(file.create("x"))',
    '~ I(I(file.create("x")))',
    '~ (function() file.create("x"))()',
    '~ factor(eval(parse(text = "1")))',
    "~ I(x[1])",
    "~ if (TRUE) x",
    "~ x |> log() |> print()",
    "~ stats::poly(x, 2)",
    "~ splines:::ns(x)",
    "~ x %in% y",
    "~ poly(x, degree = get('y'))",
    "~ 'text'",
    "y ~ x",
    "x",
    "~ x +",
    "~ ~ x"
  )
  for (text in bad) {
    expect_error(parse_formula(text), "--covariates", class = "patina_error_command_line")
  }
  expect_length(list.files(folder), 0L)

  skip_if_not_installed("optparse")
  tissue <- local_tissue()
  run <- \(formula) {
    run_here(
      "--covariates",
      formula,
      tissue$path("counts.csv"),
      tissue$path("spots.csv"),
      tissue$path("a.csv")
    )
  }
  expect_refused(run("~ letters"), "letters")
  expect_refused(run('~ I({base::system("touch x"); 1})'), "may not use")
  expect_identical(run("~ splines::ns(x, df = 3) + poly(y, 2)")$status, 0L)
})

"""Linear systems and the solvers that are built on them: of Newton steps, active sets, and the
gradient through a fixed point.

jacobian            systems with the Jacobian of ∂E/∂μ
newton              damped Newton steps on the Poisson free energy
active_set          active-set steps on the lasso, for a batch
coordinate_descent  the optimum of the lasso on a CPU, in compiled code
working_sets        the same of many atoms
convolutional_descent  the same under a convolutional dictionary
implicit            the gradient through a fixed point
"""

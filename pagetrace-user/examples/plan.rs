fn main() {
    for path in std::env::args().skip(1) {
        let plan = pagetrace_user::symbols::allocators::plan(std::path::Path::new(&path));
        match plan {
            Ok(Some(plan)) => {
                println!("{path}: {} missing {:?}", plan.name, plan.missing);
                for f in plan.functions {
                    println!("  {:40} {:?} site+{} {:?} regs {:?} after {} fwd {} throws {} returns {}", f.symbol, f.call, f.site.offset, f.site.cost, f.site.registers, f.after, f.forwards, f.throws, f.returns.len());
                }
            }
            other => println!("{path}: {other:?}"),
        }
    }
}

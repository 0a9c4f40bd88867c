use pagetrace_user::live::{layout, load};
fn main() {
    if std::env::args().nth(1).as_deref() == Some("__layout") { std::process::exit(layout::stage().into()); }
    let l = layout::read().unwrap();
    println!("{l:?}");
    match load::Kernel::load(&l, &load::LoadOptions { ring_bytes: 8 << 20, one_ring: false }) {
        Ok((mut k, mut rings)) => {
            for p in &k.probes { if !p.attached { println!("{p:?}"); } }
            let pid: u32 = std::env::args().nth(1).unwrap().parse().unwrap();
            k.want(pagetrace_user::units::Pid(pid)).unwrap();
            k.set(0, 1).unwrap();
            k.walk().unwrap();
            std::thread::sleep(std::time::Duration::from_secs(1));
            k.set(0, 0).unwrap();
            for r in &mut rings { let mut n = 0; while let Some(i) = r.next() { let w: Vec<u64> = i.chunks(8).map(|c| u64::from_le_bytes(c.try_into().unwrap())).collect(); n += 1; if n < 20 { println!("k{} f{:x} {:x?}", w[1] & 255, w[1]>>8&255, &w[2..]); } } println!("{n}"); }
            for c in 0..k.cpus { println!("{:?}", k.counters(c)); }
            println!("{:?}", k.recursion_misses());
        }
        Err(e) => println!("{e}"),
    }
}
